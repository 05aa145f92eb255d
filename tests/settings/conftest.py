import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # campaigns.py, without packages among the tests

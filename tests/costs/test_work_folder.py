from PIL import Image

from cp2.costs.work_folder import write_images


def test_synthetic_photographs_repeat_and_have_the_size_of_real_ones(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    contents = []
    for folder in folders:
        folder.mkdir()
        contents.append([path.read_bytes() for path in write_images(folder, 2)])
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[0][1]
    assert all(40_000 < len(data) < 150_000 for data in contents[0])
    with Image.open(folders[0] / "image-0000.jpg") as image:
        assert image.size == (500, 375)

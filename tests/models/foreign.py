"""A tiny ResNet as SimCLR's and BYOL's code would make, save and run it, written from their
descriptions: names, kernels (height, width, in, out), images (N, height, width, 3), padding."""

import io
import math
import pickle
import struct
import sys
import types
import zipfile
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn import functional as F

from cp2.settings.models import ResNetSettings

BLOCKS, WIDTHS, STEM = (1, 2, 1, 1), (4, 4, 8, 8), 64
STRIDES = (1, 2, 2, 2)


def settings(padding="symmetric", scale="imagenet", output_stride=32):
    return ResNetSettings(
        family="resnet",
        name="tiny",
        title="tiny",
        arch="resnet26",
        args={"layers": list(BLOCKS), "channels": list(WIDTHS)},
        output_stride=output_stride,
        padding=padding,
        input=scale,
    )


def layers():
    """(kernel size, in, out) of every convolution in the order of TensorFlow's numbering, and its
    name in Haiku."""
    yield "initial", 7, 3, STEM
    before = STEM
    for stage, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
        for block in range(blocks):
            place = f"block_group_{stage}/~/block_{block}/~/"
            if block == 0:
                yield place + "shortcut", 1, before, 4 * width
            yield place + "0", 1, before, width
            yield place + "1", 3, width, width
            yield place + "2", 1, width, 4 * width
            before = 4 * width


def _random(rng, kernel, inputs, outputs):
    weight = rng.normal(size=(kernel, kernel, inputs, outputs)) / math.sqrt(kernel**2 * inputs)
    norm = {
        "scale": rng.uniform(0.5, 1.5, outputs),
        "offset": rng.normal(size=outputs),
        "mean": rng.normal(size=outputs),
        "var": rng.uniform(0.5, 2, outputs),
    }
    return weight.astype("f4"), {key: value.astype("f4") for key, value in norm.items()}


def simclr_variables(seed=0):
    """Variables by TensorFlow's names, with what else a checkpoint of SimCLR holds."""
    rng = np.random.default_rng(seed)
    variables = {"global_step": np.array(225206, "i8")}
    for number, (_, kernel, inputs, outputs) in enumerate(layers()):
        weight, norm = _random(rng, kernel, inputs, outputs)
        suffix = f"_{number}" if number else ""
        variables[f"base_model/conv2d{suffix}/kernel"] = weight
        variables[f"base_model/conv2d{suffix}/kernel/Momentum"] = np.zeros_like(weight)
        for theirs, ours in zip(
            ("gamma", "beta", "moving_mean", "moving_variance"), norm, strict=True
        ):
            variables[f"base_model/batch_normalization{suffix}/{theirs}"] = norm[ours]
    variables["head_contrastive/nl_0/dense/kernel"] = np.zeros((4, 4), "f4")
    return variables


def haiku_trees(seed=0):
    """Haiku's parameters and state: module name -> name -> array."""
    rng = np.random.default_rng(seed)
    params, state = {}, {}
    for name, kernel, inputs, outputs in layers():
        weight, norm = _random(rng, kernel, inputs, outputs)
        root = "res_net50/~/"
        place, _, part = name.rpartition("/")
        place = f"{root}{place}/" if place else root
        conv, batchnorm = (
            (f"{part}_conv", f"{part}_batchnorm")
            if not part.isdigit()
            else (f"conv_{part}", f"batchnorm_{part}")
        )
        params[place + conv] = {"w": weight}
        params[place + batchnorm] = {
            key: norm[key].reshape(1, 1, 1, -1) for key in ("scale", "offset")
        }
        for key in ("mean", "var"):
            average = norm[key].reshape(1, 1, 1, -1)
            state[f"{place}{batchnorm}/~/{key}_ema"] = {
                "hidden": average * 0.5,
                "average": average,
                "counter": np.array(7, "i4"),
            }
    params["projector/linear"] = {"w": np.zeros((4, 4), "f4"), "b": np.zeros(4, "f4")}
    return params, state


# --- running them ---


def same(image, kernel, stride, value=0.0):
    """Rows and columns that TensorFlow's SAME padding adds to (N, C, H, W)."""
    pads = []
    for size in reversed(image.shape[2:]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(image, pads, value=value)


def fixed(image, kernel, stride):
    """SimCLR's padding: by the kernel alone where the stride is over 1."""
    if stride == 1:
        return same(image, kernel, 1)
    before = (kernel - 1) // 2
    return F.pad(image, [before, kernel - 1 - before] * 2)


def run(images, next_layer, pad):
    """The network's last map (N, h, w, channels), in evaluation mode.

    `next_layer()` gives kernel and (scale, offset, mean, var) in the order of making.
    """

    def conv(x, stride=1, relu=True):
        weight, (scale, offset, mean, var) = next_layer()
        kernel = torch.tensor(weight).permute(3, 2, 0, 1)
        x = F.conv2d(pad(x, weight.shape[0], stride), kernel, stride=stride)
        stack = [torch.tensor(v).reshape(1, -1, 1, 1) for v in (scale, offset, mean, var)]
        x = (x - stack[2]) / torch.sqrt(stack[3] + 1e-5) * stack[0] + stack[1]
        return torch.relu(x) if relu else x

    x = torch.tensor(images).permute(0, 3, 1, 2)
    x = conv(x, 2)
    x = F.max_pool2d(same(x, 3, 2, value=float("-inf")), 3, 2)
    for blocks, first_stride in zip(BLOCKS, STRIDES, strict=True):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            shortcut = conv(x, stride, relu=False) if block == 0 else x
            inner = conv(conv(x), stride)
            x = torch.relu(conv(inner, relu=False) + shortcut)
    return x.permute(0, 2, 3, 1)


def run_simclr(variables, images):
    """`images` (N, height, width, 3) from 0 to 1."""
    numbers = iter(range(1000))

    def next_layer():
        number = next(numbers)
        suffix = f"_{number}" if number else ""
        norm = f"base_model/batch_normalization{suffix}/"
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return variables[f"base_model/conv2d{suffix}/kernel"], [variables[norm + n] for n in names]

    return run(images, next_layer, fixed)


def run_haiku(params, state, images):
    """`images` (N, height, width, 3), normalised as ImageNet's."""
    convs = [name for name in params if "conv" in name]
    order = iter(convs)  # Haiku keeps the order of making

    def next_layer():
        name = next(order)
        norm = name.replace("initial_conv", "initial_batchnorm").replace(
            "shortcut_conv", "shortcut_batchnorm"
        )
        norm = norm.replace("/conv_", "/batchnorm_")
        averages = [state[f"{norm}/~/{key}_ema"]["average"] for key in ("mean", "var")]
        return params[name]["w"], [params[norm]["scale"], params[norm]["offset"], *averages]

    return run(images, next_layer, same)


# --- TensorFlow's container ---

CHECKSUM = b"crc."  # which nobody looks at


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """A field of a protocol buffer: int as varint, bytes as they are."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    return varint(number << 3 | 2) + varint(len(value)) + value


def table_block(pairs, compression=0):
    """A block of a LevelDB table: keys without what they share with the one before."""
    body, last, restarts = b"", b"", []
    for count, (key, value) in enumerate(pairs):
        shared = 0
        if count % 16 == 0:
            restarts.append(len(body))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value))
        body += key[shared:] + value
        last = key
    body += b"".join(struct.pack("<I", r) for r in restarts or [0])
    body += struct.pack("<I", len(restarts or [0])) + bytes([compression])
    return body + CHECKSUM


TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}


def bundle(variables, block_size=20, compression=0, **header):
    """Index and data of a checkpoint, as TensorFlow's BundleWriter lays them out."""
    data, pairs = b"", []
    first = field(1, header.get("shards", 1)) + field(2, header.get("endianness", 0))
    pairs.append((b"", first + field(3, field(1, 1))))
    for name in sorted(variables):
        raw = variables[name].tobytes()
        shape = b"".join(field(2, field(1, size)) for size in variables[name].shape)
        entry = field(1, TYPES[str(variables[name].dtype)]) + field(2, shape)
        entry += field(4, len(data)) + field(5, len(raw))
        entry += varint(6 << 3 | 5) + CHECKSUM
        pairs.append((name.encode(), entry))
        data += raw
    table, handles = b"", []
    for start in range(0, len(pairs), block_size):
        part = pairs[start : start + block_size]
        block = table_block(part, compression)
        handles.append((part[-1][0], varint(len(table)) + varint(len(block) - 5)))
        table += block
    footer = b""
    for block in (table_block([]), table_block(handles)):
        footer += varint(len(table)) + varint(len(block) - 5)
        table += block
    return table + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57), data


def write_bundle(path, index, data, prefix="ResNet50_1x/model.ckpt-225206", shards="00001"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ResNet50_1x/checkpoint", "model_checkpoint_path: ...")
        archive.writestr(f"{prefix}.index", index)
        archive.writestr(f"{prefix}.data-00000-of-{shards}", data)
    return path


# --- BYOL's and DetCon's containers ---


@contextmanager
def foreign_classes():
    """Modules with the classes that BYOL's pickle names, there only while it is written."""
    from collections import namedtuple

    haiku = types.ModuleType("haiku._src.data_structures")

    class frozendict(dict):
        def __reduce__(self):
            return frozendict, (dict(self),)

    frozendict.__module__, frozendict.__qualname__ = haiku.__name__, "frozendict"
    haiku.frozendict = frozendict
    byol = types.ModuleType("byol.byol_experiment")
    fields = "online_params target_params online_state target_state opt_state"
    state = namedtuple("_ByolExperimentState", fields)
    state.__module__ = byol.__name__
    byol._ByolExperimentState = state
    optimizers = types.ModuleType("byol.utils.optimizers")
    lars = namedtuple("ScaleByLarsState", "mu")
    lars.__module__ = optimizers.__name__
    optimizers.ScaleByLarsState = lars
    modules = {module.__name__: module for module in (haiku, byol, optimizers)}
    for name in ("haiku", "haiku._src", "byol", "byol.utils"):
        modules[name] = types.ModuleType(name)
    sys.modules.update(modules)
    try:
        yield frozendict, state, lars
    finally:
        for name in modules:
            del sys.modules[name]


def byol_pickle(params, state, protocol=2):
    """What dill writes of BYOL's experiment: protocol 2, named tuples, immutable dictionaries."""
    with foreign_classes() as (frozendict, experiment, lars):

        def frozen(tree):
            return frozendict({k: frozendict(v) for k, v in tree.items()})

        def zeros(tree):
            return {k: {n: np.zeros_like(a) for n, a in v.items()} for k, v in tree.items()}

        whole = experiment(
            frozen(params),
            frozen(zeros(params)),
            frozen(state),
            frozen(zeros(state)),
            ((), lars(frozen(zeros(params))), np.float32(0.5)),
        )
        rng = np.array([0, 1], "u4")
        content = {"experiment_state": whole, "step": 1000, "rng": rng}
        return pickle.dumps(content, protocol=protocol)


def numpy_file(content):
    buffer = io.BytesIO()
    np.save(buffer, np.array(content, dtype=object), allow_pickle=True)
    return buffer.getvalue()

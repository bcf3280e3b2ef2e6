"""Values that no function expects, and what may come of them: what is right, or one sentence."""

import fractions
import math
import pathlib
import types
import warnings

import numpy as np
import pandas as pd
import torch
from helpers import one_sentence

from lsnc_core.errors import UsageError

LONGEST = 2_000  # characters of a sentence


def values():
    """Hostile values by name, made anew: a call may keep or change them."""
    twice = pd.Series([0.5, 0.5], index=[0, 0])
    sparse = torch.eye(3).to_sparse()
    return {
        "None": None,
        "True": True,
        "NaN": math.nan,
        "infinity": math.inf,
        "minus infinity": -math.inf,
        "minus zero": -0.0,
        "zero": 0,
        "minus one": -1,
        "minus a half": -0.5,
        "a tiny number": 5e-324,
        "a large number": 1e308,
        "a huge int": 10**400,
        "int64's end": 2**63,
        "complex": 1j,
        "a fraction": fractions.Fraction(1, 3),
        "no text": "",
        "text": "x",
        "two lines": "a\nb",
        "NUL": "a\0b",
        "right to left": "\u202egpj.exe",
        "a lone surrogate": "\ud800",
        "a long text": "x" * 100_000,
        "a format": "{0} %s $x",
        "bytes": b"\xff\xfe",
        "no path": pathlib.Path("/nonexistent/x.py"),
        "a device": "/dev/null",
        "an absent file of labels": "/nonexistent/labels.npz:a",
        "an absent file": "/nonexistent/a.py",
        "nothing listed": [],
        "a tuple": (1, 2),
        "ragged": [[1.0], [2.0, 3.0]],
        "texts": ["a", "b"],
        "a mapping": {"a": 1},
        "an empty mapping": {},
        "a set": {1},
        "an object": object(),
        "a type": int,
        "a function": values,
        "a module": types,
        "NumPy's NaN": np.float32(math.nan),
        "int8": np.int8(-128),
        "an empty array": np.empty(0),
        "an array of objects": np.array([None, {}], dtype=object),
        "an array of texts": np.array(["a", "b"]),
        "an array of dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
        "an array with NaN": np.array([0.5, math.nan]),
        "an array of ints": np.arange(6).reshape(2, 3),
        "five axes": np.zeros((1, 1, 1, 1, 1)),
        "a masked array": np.ma.masked_array([0.5, 0.5], [True, False]),
        "a structured array": np.zeros(2, dtype=[("a", "f8")]),
        "a big-endian array": np.array([0.5, 0.5], dtype=">f8"),
        "an index that repeats": twice,
        "a table": pd.DataFrame({"a": ["x", None]}),
        "an empty tensor": torch.empty(0),
        "a tensor of one number": torch.tensor(0.5),
        "a matrix without rows": torch.empty(0, 3),
        "a matrix without columns": torch.empty(6, 0),
        "a tensor of NaN": torch.full((6, 3), math.nan),
        "a tensor of infinities": torch.full((6, 3), math.inf),
        "a tensor of 1e308": torch.full((6, 3), 1e308, dtype=torch.float64),
        "another length": torch.zeros(5, 3),
        "another width": torch.zeros(6, 7),
        "labels beyond": torch.tensor([0, 1, 2, 3, -1, 99]),
        "labels of one class": torch.zeros(6, dtype=torch.int64),
        "labels as uint8": torch.tensor([0, 1, 2, 0, 1, 255], dtype=torch.uint8),
        "labels as floats": torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0]),
        "a tensor of bools": torch.ones(6, 3, dtype=torch.bool),
        "a tensor of int8": torch.ones(6, 3, dtype=torch.int8),
        "a complex tensor": torch.ones(6, 3, dtype=torch.complex64),
        "half precision": torch.full((6, 3), 60_000.0, dtype=torch.float16),
        "a tensor with a gradient": torch.rand(6, 3, requires_grad=True),
        "not contiguous": torch.rand(3, 6).T,
        "expanded": torch.zeros(1, 1).expand(6, 3),
        "sparse": sparse,
        "without values": torch.empty(6, 3, device="meta"),
        "four axes": torch.zeros(2, 3, 4, 5),
    }


COUNT = len(values())


def fingerprint(value):
    """What changes when a value does."""
    if isinstance(value, torch.Tensor):
        if value.device.type == "meta" or value.layout != torch.strided:
            return value.shape
        return value.detach().resolve_conj().clone().numpy().tobytes()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.tobytes()
    if isinstance(value, (list, dict, set, tuple)):
        return repr(value)
    return None


def numbers_of(result):
    """All floating-point numbers of a result, flat."""
    if isinstance(result, (float, np.floating)):
        return [float(result)]
    if isinstance(result, torch.Tensor) and result.device.type == "cpu":
        result = result.detach().to_dense() if result.layout != torch.strided else result.detach()
        return result.double().flatten().tolist() if result.is_floating_point() else []
    if isinstance(result, np.ndarray) and result.dtype.kind == "f":
        return result.ravel().tolist()
    return []


def is_finite(value):
    """Whether a value holds no NaN and no infinity, as far as can be seen."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(np.isfinite(np.asarray(value, dtype=np.float64)).all())
    except (TypeError, ValueError, RuntimeError, OverflowError, NotImplementedError):
        return True


def fault(call, given):
    """What is wrong with a call, or "": another error than one sentence, a NaN out of numbers, a
    changed argument.

    Args: call, a function; given, its arguments by name.
    """
    before = {name: fingerprint(value) for name, value in given.items()}
    finite = all(map(is_finite, given.values()))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            result = call(**given)
        except UsageError as error:
            # "did you mean x?" ends one, too
            if not one_sentence(str(error).removesuffix("?") + "."):
                return f"no sentence: {str(error)[:200]!r}"
            return "" if len(str(error)) <= LONGEST else f"{len(str(error))} characters"
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:100]}"
    changed = [name for name, value in given.items() if fingerprint(value) != before[name]]
    if changed:
        return f"changed {', '.join(changed)}"
    if finite and any(map(math.isnan, numbers_of(result))):
        return "NaN"
    return ""


def cases(valid):
    """Each argument replaced by each hostile value: the argument, the value's name, all arguments.

    Args: valid, a function that makes arguments by name.
    """
    for argument, value in valid().items():
        if value is False:
            continue
        for name, hostile in values().items():  # each is used once
            yield argument, name, valid() | {argument: hostile}

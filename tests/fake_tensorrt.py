"""TensorRT's run-time interface over host memory: a "plan" is a Python function, by name.

For numba's simulator, where device arrays are numpy's. Strict where the real one is: shapes must
be set before a call, addresses bound by name, and what fails answers None or False.
"""

import ctypes
import math

import numpy as np

float32 = "float32"
NETWORKS = {}
"""What a plan's bytes name: a function from (tile, channel, z, y, x) to (tile, label, z, y, x)."""
FAILING = set()
"""Names of calls that shall fail: ``execute``, ``context``."""


class Logger:
    ERROR = 1

    def __init__(self, severity):
        assert severity == self.ERROR


class TensorIOMode:
    INPUT, OUTPUT = "input", "output"


class Runtime:
    def __init__(self, logger):
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, plan):
        return Engine(NETWORKS[plan]) if plan in NETWORKS else None


class Engine:
    num_io_tensors = 2
    device_memory_size_v2 = 1 << 20

    def __init__(self, network):
        self.function, self.channels, self.labels, self.patch, self.most = network

    def get_tensor_name(self, k):
        return ("logits", "input")[k]

    def get_tensor_mode(self, name):
        return {"logits": TensorIOMode.OUTPUT, "input": TensorIOMode.INPUT}[name]

    def get_tensor_dtype(self, name):
        return float32

    def get_tensor_profile_shape(self, name, profile):
        assert (name, profile) == ("input", 0)
        rest = (self.channels, *self.patch)
        return [(1, *rest), (self.most, *rest), (self.most, *rest)]

    def create_execution_context(self):
        return None if "context" in FAILING else Context(self)


class Context:
    def __init__(self, engine):
        self._engine, self._address, self._shape = engine, {}, None

    def set_tensor_address(self, name, address):
        self._address[name] = address
        return True

    def set_input_shape(self, name, shape):
        engine = self._engine
        fits = 1 <= shape[0] <= engine.most and shape[1:] == (engine.channels, *engine.patch)
        self._shape = tuple(shape) if fits else None
        return fits

    def get_tensor_shape(self, name):
        return (self._shape[0], self._engine.labels, *self._engine.patch)

    def execute_async_v3(self, stream):
        if "execute" in FAILING:
            return False
        tiles = array_at(self._address["input"], self._shape)
        logits = array_at(self._address["logits"], self.get_tensor_shape("logits"))
        logits[...] = self._engine.function(tiles)
        return True


def array_at(address, shape):
    """A view of somebody's float32 memory."""
    count = math.prod(shape)
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)

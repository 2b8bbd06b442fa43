"""PyTorch, eager and in full precision: the reference of all other runtimes, for development."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..cpus import cpu_name, usable_cpus
from ..errors import BackendError, ModelError
from ..model_json import (
    REFINER_WEIGHTS,
    WEIGHTS_FILE,
    check_file,
    read_model_json,
    refiner_spec,
)
from ..network.graphs import graphs_of, refiner_graphs_of
from ..network.mrcnet import MrcNet, RefinerNetwork
from ..specs import GRAPHS, REFINER_GRAPHS, ModelSpec
from .backend import Arrays, HostBackend, RuntimeOptions
from .cuda_driver import gpu_name

NetworkT = TypeVar('NetworkT', bound=nn.Module)

class TorchBackend(HostBackend):
    """Runs the networks themselves, from the weights beside the graphs.

    :param graphs: files of the graphs; only their directory and names are used.
    :raises BackendError: when the device is not ``cpu`` or ``cuda``, PyTorch sees no GPU, or the
        model has other graphs than the default preset.
    :raises ModelError: when the weights are missing or not those of ``model.json``.
    """

    name, precision = 'torch', 'fp32'

    def __init__(self, graphs: Mapping[str, Path], options: RuntimeOptions) -> None:
        self._where = torch_device(options.device)
        if tuple(graphs) not in (GRAPHS, (*GRAPHS, *REFINER_GRAPHS)):
            raise BackendError(f'backend torch runs the graphs {", ".join(GRAPHS)}, which are '
                               f'those of the default preset, got {", ".join(graphs)}; choose '
                               'another backend for this model')
        self.version = str(torch.__version__)
        self.device = gpu_name() if options.device == 'cuda' else cpu_name()
        torch.set_num_threads(options.threads or usable_cpus())  # of the whole process
        folder = next(iter(graphs.values())).parent
        values = read_model_json(folder)[1]
        spec, count = ModelSpec.from_dict(values['spec']), len(values['objects'])
        parts = graphs_of(self._loaded(MrcNet(spec=spec, objects=count), folder, WEIGHTS_FILE))
        refiner = refiner_spec(values) if len(graphs) > len(GRAPHS) else None
        if refiner is not None:
            parts |= refiner_graphs_of(self._loaded(
                RefinerNetwork(spec=refiner, objects=count), folder, REFINER_WEIGHTS))
        self._graphs = parts

    def _loaded(self, network: NetworkT, folder: Path, name: str) -> NetworkT:
        """Return a network with the weights of a file, in evaluation mode, on the device.

        :raises ModelError: when they are missing, others, or not those of ``model.json``.
        """
        check_file(folder / name, read_model_json(folder)[1]['files'].get(name, ''))
        state = torch.load(folder / name, map_location='cpu', weights_only=True)
        try:
            network.load_state_dict(state['average'])
        except (KeyError, RuntimeError) as error:
            raise ModelError(folder / name, f'are not weights of this network: {error}',
                             'export the model again') from error
        return network.eval().to(self._where)

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        return run_module(self._graphs[graph], inputs, self._where)

    def close(self) -> None:
        """Let go of the network, whose memory may be on a GPU."""
        self._graphs = {}
        if self._where.type == 'cuda':
            torch.cuda.empty_cache()


def run_module(module: Any, inputs: Arrays, device: torch.device) -> dict[str, NDArray[Any]]:
    """Run a module with the names of its ``inputs`` and ``outputs`` on a batch."""
    arguments = [torch.from_numpy(np.ascontiguousarray(inputs[n])).to(device)
                 for n in module.inputs]
    with torch.inference_mode():
        found = module(*arguments)
    return {name: t.cpu().numpy() for name, t in zip(module.outputs, found, strict=True)}


def torch_device(name: str) -> torch.device:
    """Return the device of that name; on a GPU fp32 then means fp32, in the whole process.

    :param name: ``cpu``, which '' means as well, or ``cuda``.
    :raises BackendError: when it is another one, or PyTorch sees no GPU.
    """
    if name not in ('', 'cpu', 'cuda'):
        raise BackendError(f'backend torch runs on the device cpu or cuda, not on {name!r}')
    if name == 'cuda':
        if not torch.cuda.is_available():
            raise BackendError(f'backend torch has no device cuda: PyTorch {torch.__version__} '
                               'sees no GPU; install the driver and a PyTorch with CUDA')
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device(name or 'cpu')

"""Human-machine collaborative design search for compact vision networks.

The public names load when they are first used, so that ``import collabdesign`` and
``collabdesign --help`` need neither torch nor optuna.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME_OF = {
    "Architecture": "collabdesign.design.architecture",
    "Cost": "collabdesign.design.cost",
    "DesignSpace": "collabdesign.design.space",
    "GenerativeSampler": "collabdesign.sampler.generator",
    "Machine": "collabdesign.pipeline",
    "build_network": "collabdesign.evaluate.network",
    "compare": "collabdesign.pipeline",
    "cost_of": "collabdesign.design.cost",
    "family": "collabdesign.pipeline",
    "load_requirements": "collabdesign.design.files.reading",
    "load_variant": "collabdesign.deliver.member",
    "report": "collabdesign.pipeline",
    "run": "collabdesign.pipeline",
    "search": "collabdesign.pipeline",
}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'collabdesign' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__

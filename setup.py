"""Builds the native modules. All else is in pyproject.toml.

Switches: HEADGATE_BUILD=debug | sanitize | coverage (default: release). No -march: the instruction set is chosen when
the program runs.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

BUILD = os.environ.get("HEADGATE_BUILD", "release")
FLAGS = {
    "release": (["-O3", "-g0"], ["-Wl,-s"]),
    "debug": (["-O0", "-g3"], []),
    "sanitize": (
        ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
        ["-fsanitize=address,undefined"],
    ),
    "coverage": (["-O0", "-g", "--coverage"], ["--coverage"]),
}
if BUILD not in FLAGS:
    sys.exit(f"HEADGATE_BUILD: expected one of {', '.join(FLAGS)}, got {BUILD!r}")

compile_args, link_args = FLAGS[BUILD]
HEADERS = [f"csrc/{name}" for name in sorted(os.listdir("csrc")) if name.endswith((".hpp", ".pxd"))]
# No contraction: what is decided natively is, to the bit, what its twin in Python decides.
EXACT = ("cost", "lane", "fleet", "policy", "plan", "call", "request", "intake", "record_line", "simulator", "steering")
extensions = [
    Extension(
        ".".join(source.with_suffix("").parts),
        sources=[str(source)],
        include_dirs=["csrc"],
        depends=["setup.py", *HEADERS],
        extra_compile_args=[
            "-std=c++20",
            "-fvisibility=hidden",
            *(["-ffp-contract=off"] if source.stem in EXACT else []),
            *compile_args,
        ],
        extra_link_args=link_args,
        language="c++",
    )
    for source in sorted(Path("router").glob("*/*.pyx"))
]

setup(
    packages=[*find_packages(include=["router", "router.*"]), "router.kernels"],
    # A top-level `kernels` would collide with Hugging Face's package of that name.
    package_dir={"router.kernels": "kernels/triton"},
    ext_modules=cythonize(
        extensions,
        include_path=["csrc"],
        build_dir=f"build/cython-{BUILD}",  # the generated C++ differs between builds
        language_level=3,
        compiler_directives={
            "boundscheck": BUILD != "release",
            "wraparound": False,
            "freethreading_compatible": True,
            "linetrace": BUILD == "coverage",
        },
    ),
)

"""Package metadata and extras; tool settings (ruff, mypy, pytest) are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="faceid",
    version="0.1.0",
    description="Face identity training and distributed sampling for Wan2.1-VACE dance video generation",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["faceid", "faceid.*"]),
    package_data={"faceid": ["py.typed", "**/*.j2", "**/*.json", "**/*.yaml", "toy/weights/**/*"]},
    install_requires=[
        # torch.load of older releases runs code despite weights_only=True (CVE-2026-24747).
        "torch>=2.10",
        "accelerate>=1.15",
        # Older DeepSpeed crashes with ZeRO-3 + LoRA + gradient checkpointing (DeepSpeed PR #8148).
        "deepspeed>=0.19.3",
        "diffusers>=0.41",
        "transformers>=5.0",
        "peft>=0.21",
        "webdataset>=1.0.2",
        "tensorboard>=2.20",
        "safetensors>=0.8",
        "av>=17.1",
        # OpenCV 5 moved CascadeClassifier and its files out of the main wheel.
        "opencv-python-headless>=4.10,<5",
        "pillow>=11",
        "numpy>=2",
        "jsonargparse[signatures]>=4.53",
        "pydantic>=2.10",
        "pyyaml>=6",
        "jinja2>=3.1",
        "tqdm>=4.66",
        # prompt_clean of diffusers' Wan pipelines calls ftfy.
        "ftfy>=6.3",
        "sentencepiece>=0.2",
        "psutil>=6",
        # Rank statistics and plots of the evaluation.
        "scipy>=1.13",
        "matplotlib>=3.9",
    ],
    extras_require={
        "onnx": ["onnxruntime>=1.20"],
        # Photos as iPhones save them; libheif is LGPL, so it comes only where it is asked for.
        "heic": ["pillow-heif>=1.0"],
        # `make docs`: the documentation as pages, from the Markdown files.
        "docs": ["sphinx>=8.1", "myst-parser>=4", "furo>=2025.12"],
        "dev": [
            "pytest>=9",
            "pytest-xdist>=3.8",
            "ruff>=0.17",
            "mypy>=2.4",
            "types-PyYAML",
            "types-tqdm",
            "onnx>=1.18",
            "onnxruntime>=1.20",
            "pillow-heif>=1.0",
            # A static ffmpeg: the independent decoder that films are compared with.
            "imageio-ffmpeg>=0.6",
        ],
    },
)

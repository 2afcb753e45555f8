"""What pyproject.toml cannot say beside what it finds: configs/ is shipped as a part of the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["vl_absvit*"]), "vl_absvit.configs"],
    package_dir={"vl_absvit.configs": "configs"},
)

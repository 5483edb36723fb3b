"""Tags the wheel: any Python 3, this platform (the libraries inside are no extension modules)."""

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class Python3Wheel(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class WithLibraries(Distribution):
    def has_ext_modules(self):
        return True


setup(distclass=WithLibraries, cmdclass={"bdist_wheel": Python3Wheel})

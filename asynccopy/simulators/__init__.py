"""Small servers that speak WebHDFS, S3 and OSS on the wire, with scripted faults: for the demo and the tests.

They share no code with the clients they are used against.
"""

from asynccopy.simulators.faults import Fault
from asynccopy.simulators.namespace import Generated, TreeNamespace
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.synthetic import SyntheticNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator

__all__ = [
    "Fault",
    "Generated",
    "OssSimulator",
    "S3Simulator",
    "SyntheticNamespace",
    "TreeNamespace",
    "WebHdfsSimulator",
]

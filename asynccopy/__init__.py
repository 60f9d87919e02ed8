"""asynccopy: moves an HDFS estate into object storage, proves every byte, and survives any interruption."""

__version__ = "0.1.0"

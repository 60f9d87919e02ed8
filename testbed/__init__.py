"""Real servers to test against, on this machine: HDFS from its jars, two S3 servers. Standard library only."""

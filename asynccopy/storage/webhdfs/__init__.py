"""HDFS over WebHDFS: the NameNode is asked, the DataNodes are read."""

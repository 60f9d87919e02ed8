// A WebHDFS source and an S3 sink that cost next to nothing, so that what a client costs is seen and can be driven.
//
//	stub source --namenode HOST:PORT --datanode HOST:PORT --directories D --files F --size BYTES
//	stub sink --listen HOST:PORT [--tls CERT KEY]
//
// The tree is computed and what is sent is checked and forgotten, so neither has a size that matters. Signatures are not
// checked: the simulators and the real servers do that.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail("usage: stub source|sink OPTIONS")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	delay := flags.Duration("delay", 0, "wait so long before each answer, for example 20ms")
	switch os.Args[1] {
	case "source":
		namenode := flags.String("namenode", "127.0.0.1:0", "address of the NameNode")
		datanode := flags.String("datanode", "127.0.0.1:0", "address of the DataNode")
		tree := tree{}
		flags.Int64Var(&tree.directories, "directories", 10, "directories below the root")
		flags.Int64Var(&tree.files, "files", 100, "files in each directory")
		flags.Int64Var(&tree.size, "size", 64<<10, "bytes in each file")
		_ = flags.Parse(os.Args[2:])
		source := newSource(tree, *datanode)
		go serve(*datanode, nil, *delay, source.datanode)
		serve(*namenode, nil, *delay, source.namenode)
	case "sink":
		listen := flags.String("listen", "127.0.0.1:0", "address")
		certificate := flags.String("cert", "", "PEM file of a certificate: speak TLS")
		key := flags.String("key", "", "PEM file of its key")
		_ = flags.Parse(os.Args[2:])
		serve(*listen, secured(*certificate, *key), *delay, newSink().answer)
	default:
		fail("usage: stub source|sink OPTIONS")
	}
}

func secured(certificate, key string) *tls.Config {
	if certificate == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		fail(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// serve answers each connection in a goroutine of its own, for ever.
func serve(address string, config *tls.Config, delay time.Duration, answer func(*request)) {
	quiet := net.ListenConfig{KeepAlive: -1} // four calls of the kernel's less for each connection
	listener, err := quiet.Listen(context.Background(), "tcp", address)
	if err != nil {
		fail(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		if config != nil {
			connection = tls.Server(connection, config)
		}
		go converse(connection, delay, answer)
	}
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

package main

import (
	"fmt"
	"math/rand"
	"strconv"
	"strings"
)

// period is prime, so that neither blocks nor parts of a file are alike.
const period = 1_048_573

var noise = func() []byte {
	once := make([]byte, period)
	rand.New(rand.NewSource(20)).Read(once)
	return append(once, once...)
}()

// pattern gives what every file holds from an offset on; at most period bytes.
func pattern(offset, length int64) []byte {
	at := offset % period
	return noise[at : at+length]
}

// tree is a root with directories of as many files each, all of one size. Nothing of it is kept.
type tree struct {
	directories, files, size int64
}

const (
	root  = 16385 // HDFS's own inode number for it
	width = 7     // digits in a name: names sort as their numbers do
	born  = 1_700_000_000_000
)

// inode is one entry: its number among its siblings, and below which directory it is (-1 for none).
type inode struct {
	directory, file int64
}

var missing = inode{-2, -2}

func (t tree) find(path string) inode {
	names := strings.FieldsFunc(path, func(letter rune) bool { return letter == '/' })
	found := inode{-1, -1}
	if len(names) > 0 {
		found.directory = number(names[0], 'd', t.directories)
	}
	if len(names) > 1 {
		found.file = number(names[1], 'f', t.files)
	}
	if len(names) > 2 || found.directory == -2 || found.file == -2 {
		return missing
	}
	return found
}

// number is the one in a name; -2 for no name of ours.
func number(name string, kind byte, count int64) int64 {
	if len(name) != 1+width || name[0] != kind {
		return -2
	}
	found, err := strconv.ParseInt(name[1:], 10, 64)
	if err != nil || found < 0 || found >= count {
		return -2
	}
	return found
}

func (t tree) id(node inode) int64 {
	if node.directory < 0 {
		return root
	}
	if node.file < 0 {
		return root + 1 + node.directory
	}
	return root + 1 + t.directories + node.directory*t.files + node.file
}

func (n inode) isFile() bool { return n.file >= 0 }

// name writes that of a child: d0000012 or f0000012.
func name(out []byte, kind byte, number int64) []byte {
	return fmt.Appendf(out, "%c%0*d", kind, width, number)
}

// status writes an inode's FileStatus as NameNodes do, with all of its fields.
func (t tree) status(out []byte, node inode, suffix []byte) []byte {
	id := t.id(node)
	if node.isFile() {
		out = append(out, `{"accessTime":`...)
		out = strconv.AppendInt(out, born+id, 10)
		out = append(out, `,"blockSize":134217728,"childrenNum":0,"fileId":`...)
		out = strconv.AppendInt(out, id, 10)
		out = append(out, `,"group":"supergroup","length":`...)
		out = strconv.AppendInt(out, t.size, 10)
	} else {
		out = append(out, `{"accessTime":0,"blockSize":0,"childrenNum":`...)
		children := t.files
		if node.directory < 0 {
			children = t.directories
		}
		out = strconv.AppendInt(out, children, 10)
		out = append(out, `,"fileId":`...)
		out = strconv.AppendInt(out, id, 10)
		out = append(out, `,"group":"supergroup","length":0`...)
	}
	out = append(out, `,"modificationTime":`...)
	out = strconv.AppendInt(out, born+id, 10)
	out = append(append(append(out, `,"owner":"hdfs","pathSuffix":"`...), suffix...), '"')
	if node.isFile() {
		return append(out, `,"permission":"644","replication":1,"storagePolicy":0,"type":"FILE"}`...)
	}
	return append(out, `,"permission":"755","replication":0,"storagePolicy":0,"type":"DIRECTORY"}`...)
}

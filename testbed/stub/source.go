package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

const (
	prefix = "/webhdfs/v1"
	page   = 1000 // dfs.ls.limit
)

var asJSON = []string{"Content-Type", "application/json"}

// source is a NameNode and its DataNode.
type source struct {
	tree     tree
	address  string // of the DataNode
	checksum []byte // every file's
}

func newSource(tree tree, datanode string) *source {
	algorithm, value := fileChecksum(tree.size)
	text := fmt.Sprintf(`{"FileChecksum":{"algorithm":%q,"bytes":%q,"length":28}}`, algorithm, value)
	return &source{tree, datanode, []byte(text)}
}

func (s *source) namenode(r *request) {
	path, found := strings.CutPrefix(r.path, prefix)
	node := s.tree.find(path)
	op := r.parameter("op")
	switch {
	case !found || node == missing:
		refuse(r, 404, "FileNotFoundException", "File does not exist: "+path)
	case op == "GETFILESTATUS":
		r.send(200, append(s.tree.status([]byte(`{"FileStatus":`), node, nil), '}'), asJSON...)
	case op == "LISTSTATUS_BATCH":
		s.list(r, node)
	case op == "OPEN" || op == "GETFILECHECKSUM":
		s.redirect(r, op)
	case op == "GET_BLOCK_LOCATIONS" && node.isFile():
		s.blocks(r, node)
	default:
		refuse(r, 400, "IllegalArgumentException", `Invalid value for webhdfs parameter "op": `+op)
	}
}

// redirect names the DataNode, as noredirect=true wants it.
func (s *source) redirect(r *request, op string) {
	out := make([]byte, 0, 256)
	out = append(out, `{"Location":"http://`...)
	out = append(append(append(out, s.address...), r.path...), "?op="...)
	out = append(append(append(out, op...), "&user.name="...), r.parameter("user.name")...)
	out = append(out, "&namenoderpcaddress=localhost:8020"...)
	for _, name := range [...]string{"length", "offset"} {
		if value := r.parameter(name); value != "" {
			out = append(append(append(append(out, '&'), name...), '='), value...)
		}
	}
	r.send(200, append(out, `"}`...), asJSON...)
}

// list answers with the children after the named one, a page of them.
func (s *source) list(r *request, node inode) {
	kind, count := byte('d'), s.tree.directories
	if node.directory >= 0 {
		kind, count = 'f', s.tree.files
	}
	first := int64(0)
	if after := r.parameter("startafter"); after != "" {
		if first = number(after, kind, count) + 1; first < 0 {
			refuse(r, 400, "IllegalArgumentException", "startafter names no child: "+after)
			return
		}
	}
	last := min(first+page, count)
	if node.isFile() {
		first, last, count = 0, 0, 0
	}
	out := make([]byte, 0, 512+300*(last-first))
	out = append(out, `{"DirectoryListing":{"partialListing":{"FileStatuses":{"FileStatus":[`...)
	var suffix []byte
	for child := first; child < last; child++ {
		if child > first {
			out = append(out, ',')
		}
		suffix = name(suffix[:0], kind, child)
		if kind == 'd' {
			out = s.tree.status(out, inode{child, -1}, suffix)
		} else {
			out = s.tree.status(out, inode{node.directory, child}, suffix)
		}
	}
	out = append(out, `]}},"remainingEntries":`...)
	out = strconv.AppendInt(out, count-last, 10)
	r.send(200, append(out, "}}"...), asJSON...)
}

func (s *source) blocks(r *request, node inode) {
	host, port, _ := net.SplitHostPort(s.address)
	start := r.number("offset", 0)
	end := start + r.number("length", 1<<62)
	var located []string
	for at := int64(0); at < s.tree.size; at += blockSize {
		length := min(blockSize, s.tree.size-at)
		if at < end && at+length > start {
			located = append(located, fmt.Sprintf(
				`{"startOffset":%d,"block":{"blockId":%d,"numBytes":%d},"locations":[{"ipAddr":"127.0.0.1","hostName":%q,"infoPort":%s,"xferPort":9866}]}`,
				at, s.tree.id(node)*1000+at/blockSize, length, host, port))
		}
	}
	text := fmt.Sprintf(`{"LocatedBlocks":{"fileLength":%d,"locatedBlocks":[%s]}}`, s.tree.size, strings.Join(located, ","))
	r.send(200, []byte(text), asJSON...)
}

// datanode ends the connection after each answer, as real ones do.
func (s *source) datanode(r *request) {
	r.closing = true
	path, found := strings.CutPrefix(r.path, prefix)
	node := s.tree.find(path)
	switch op := r.parameter("op"); {
	case !found || !node.isFile():
		refuse(r, 404, "FileNotFoundException", "File does not exist: "+path)
	case op == "GETFILECHECKSUM":
		r.send(200, s.checksum, asJSON...)
	case op == "OPEN":
		s.open(r)
	default:
		refuse(r, 400, "IllegalArgumentException", "Invalid operation "+op)
	}
}

func (s *source) open(r *request) {
	at := r.number("offset", 0)
	if at > s.tree.size {
		refuse(r, 403, "EOFException", "Cannot seek after EOF")
		return
	}
	end := at + min(r.number("length", s.tree.size), s.tree.size-at)
	r.head(200, end-at, "Content-Type", "application/octet-stream", "Access-Control-Allow-Methods", "GET")
	first := min(period, end-at)
	r.flush(pattern(at, first))
	for at += first; at < end && !r.closed; at += first {
		first = min(period, end-at)
		r.write(pattern(at, first))
	}
}

func refuse(r *request, status int, exception, message string) {
	text := fmt.Sprintf(`{"RemoteException":{"exception":%q,"javaClassName":"java.io.%s","message":%q}}`, exception, exception, message)
	r.send(status, []byte(text), asJSON...)
}

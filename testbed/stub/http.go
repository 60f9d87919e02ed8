package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const buffer = 128 << 10

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, buffer) }}

// request is one request of a connection, parsed by hand: net/http costs several times what is to be measured.
type request struct {
	connection net.Conn
	in         *bufio.Reader
	method     string
	path       string // unescaped
	query      string
	length     int64             // of the body; the part not read yet
	headers    map[string]string // lower case; only what the sink looks at
	delay      time.Duration
	out        []byte
	closing    bool // after this answer
	closed     bool // by the client
}

var heeded = map[string]bool{
	"content-length": true, "x-amz-content-sha256": true, "x-amz-checksum-crc32c": true, "x-amz-checksum-algorithm": true,
	"x-amz-decoded-content-length": true, "x-amz-trailer": true,
}

// converse answers the requests of one connection until either side ends it.
func converse(connection net.Conn, delay time.Duration, answer func(*request)) {
	in := readers.Get().(*bufio.Reader)
	in.Reset(connection)
	defer func() {
		connection.Close()
		in.Reset(nil)
		readers.Put(in)
	}()
	r := request{connection: connection, in: in, delay: delay, headers: map[string]string{}}
	for !r.closing && !r.closed && r.read() {
		answer(&r)
		if r.length > 0 { // a body that nobody wanted
			return
		}
	}
}

// read takes the next head; false when there is none, or none that we understand.
func (r *request) read() bool {
	line, err := r.in.ReadSlice('\n')
	if err != nil {
		return false
	}
	words := strings.SplitN(string(line), " ", 3)
	if len(words) != 3 {
		return false
	}
	r.method = words[0]
	path, query, _ := strings.Cut(words[1], "?")
	if r.path, err = url.PathUnescape(path); err != nil {
		return false
	}
	r.query, r.length = query, 0
	clear(r.headers)
	for {
		line, err := r.in.ReadSlice('\n')
		if err != nil {
			return false
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if lower := strings.ToLower(string(name)); heeded[lower] {
			r.headers[lower] = string(bytes.TrimSpace(value))
		}
	}
	if text := r.headers["content-length"]; text != "" {
		if r.length, err = strconv.ParseInt(text, 10, 64); err != nil {
			return false
		}
	}
	return true
}

// next gives the piece of the body that has come, good until the next call; io.EOF after the last.
func (r *request) next() ([]byte, error) {
	if r.length == 0 {
		return nil, io.EOF
	}
	if r.in.Buffered() == 0 {
		if _, err := r.in.Peek(1); err != nil {
			return nil, io.ErrUnexpectedEOF
		}
	}
	piece, _ := r.in.Peek(int(min(int64(r.in.Buffered()), r.length)))
	_, _ = r.in.Discard(len(piece))
	r.length -= int64(len(piece))
	return piece, nil
}

// parameter gives a query parameter, unescaped; "" when it is absent or empty.
func (r *request) parameter(name string) string {
	for rest := r.query; rest != ""; {
		var item string
		item, rest, _ = strings.Cut(rest, "&")
		if key, value, _ := strings.Cut(item, "="); key == name {
			text, _ := url.QueryUnescape(value)
			return text
		}
	}
	return ""
}

// has tells whether a query parameter is there, be it empty.
func (r *request) has(name string) bool {
	for rest := r.query; rest != ""; {
		var item string
		item, rest, _ = strings.Cut(rest, "&")
		if key, _, _ := strings.Cut(item, "="); key == name {
			return true
		}
	}
	return false
}

func (r *request) number(name string, absent int64) int64 {
	if number, err := strconv.ParseInt(r.parameter(name), 10, 64); err == nil && number >= 0 {
		return number
	}
	return absent
}

// head begins an answer in r.out: headers come as name, value, name, value.
func (r *request) head(status int, length int64, headers ...string) {
	out := append(r.out[:0], "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(out, " -\r\nContent-Length: "...)
	out = strconv.AppendInt(out, length, 10)
	for at := 0; at < len(headers); at += 2 {
		out = append(append(append(append(out, "\r\n"...), headers[at]...), ": "...), headers[at+1]...)
	}
	if r.closing {
		out = append(out, "\r\nConnection: close"...)
	}
	r.out = append(out, "\r\n\r\n"...)
}

// send gives a whole answer by one call of the kernel's.
func (r *request) send(status int, body []byte, headers ...string) {
	r.head(status, int64(len(body)), headers...)
	r.out = append(r.out, body...)
	r.flush()
}

// flush sends what head began, and a body's first piece with it.
func (r *request) flush(body ...[]byte) {
	if r.delay > 0 {
		time.Sleep(r.delay)
	}
	r.write(append([][]byte{r.out}, body...)...)
}

// write sends pieces by one call of the kernel's.
func (r *request) write(pieces ...[]byte) {
	if len(pieces) == 1 {
		_, err := r.connection.Write(pieces[0])
		r.closed = err != nil
		return
	}
	several := net.Buffers(pieces)
	_, err := several.WriteTo(r.connection)
	r.closed = err != nil
}

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"sync"
)

const (
	crc32c      = "x-amz-checksum-crc32c"
	kind        = "x-amz-checksum-type"
	wholeObject = "FULL_OBJECT"
)

// sum is all that is kept of bytes that were sent.
type sum struct {
	size int64
	crc  uint32
}

// sink takes objects below any bucket, checks what their senders claim, and keeps a sum of each.
type sink struct {
	mutex   sync.Mutex
	objects map[string]sum
	size    int64 // of all objects
	uploads map[string]map[int]sum
	begun   int
}

func newSink() *sink {
	return &sink{objects: map[string]sum{}, uploads: map[string]map[int]sum{}}
}

// refusal is S3's answer to a request that it does not do.
type refusal struct {
	status int
	code   string
}

func (r *refusal) Error() string { return r.code }

func (s *sink) answer(r *request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.path, "/"), "/")
	err := s.work(r, key)
	var known *refusal
	if errors.As(err, &known) {
		text := fmt.Sprintf("<Error><Code>%s</Code><Message>the sink refuses</Message></Error>", known.code)
		if r.method == "HEAD" {
			text = ""
		}
		r.send(known.status, []byte(text), "Content-Type", "application/xml")
	} else if err != nil {
		r.closing = true // the body ended early: there is nobody to answer
	}
}

func (s *sink) work(r *request, key string) error {
	upload := r.parameter("uploadId")
	switch {
	case r.path == "/":
		s.count(r)
		return nil
	case key == "":
		return s.bucket(r)
	case r.method == "PUT" && upload != "":
		return s.part(r, upload)
	case r.method == "PUT":
		return s.put(r, key)
	case r.method == "POST" && r.has("uploads"):
		return s.create(r)
	case r.method == "POST" && upload != "":
		return s.complete(r, key, upload)
	case r.method == "DELETE":
		s.mutex.Lock()
		if upload != "" {
			delete(s.uploads, upload)
		} else {
			s.keep(key, sum{})
			delete(s.objects, key)
		}
		s.mutex.Unlock()
		r.send(204, nil)
		return nil
	case r.method == "HEAD":
		return s.look(r, key)
	}
	return &refusal{501, "NotImplemented"}
}

// count tells how many objects there are and how many bytes: no word of S3's.
func (s *sink) count(r *request) {
	s.mutex.Lock()
	objects, size := len(s.objects), s.size
	s.mutex.Unlock()
	r.send(200, []byte(fmt.Sprintf("%d %d", objects, size)))
}

// keep replaces an object. The mutex is held.
func (s *sink) keep(key string, got sum) {
	s.size += got.size - s.objects[key].size
	s.objects[key] = got
}

// bucket answers what is asked of a bucket: it is there, and it is empty.
func (s *sink) bucket(r *request) error {
	text := ""
	if r.method == "GET" {
		name := "ListBucketResult"
		if r.has("uploads") {
			name = "ListMultipartUploadsResult"
		}
		text = fmt.Sprintf("<%s><IsTruncated>false</IsTruncated></%s>", name, name)
	}
	r.send(200, []byte(text), "Content-Type", "application/xml")
	return nil
}

func (s *sink) put(r *request, key string) error {
	got, err := s.receive(r)
	if err != nil {
		return err
	}
	s.mutex.Lock()
	s.keep(key, got)
	s.mutex.Unlock()
	r.send(200, nil, "ETag", etag(got), crc32c, written(got.crc), kind, wholeObject)
	return nil
}

func (s *sink) look(r *request, key string) error {
	s.mutex.Lock()
	got, found := s.objects[key]
	s.mutex.Unlock()
	if !found {
		return &refusal{404, "NoSuchKey"}
	}
	r.head(200, got.size, "ETag", etag(got), crc32c, written(got.crc), kind, wholeObject)
	r.flush()
	return nil
}

func (s *sink) create(r *request) error {
	if _, err := s.receive(r); err != nil {
		return err
	}
	s.mutex.Lock()
	s.begun++
	upload := strconv.Itoa(s.begun)
	s.uploads[upload] = map[int]sum{}
	s.mutex.Unlock()
	headers := []string{"Content-Type", "application/xml"}
	if r.headers["x-amz-checksum-algorithm"] == "CRC32C" {
		headers = append(headers, "x-amz-checksum-algorithm", "CRC32C", kind, wholeObject)
	}
	text := fmt.Sprintf("<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", upload)
	r.send(200, []byte(text), headers...)
	return nil
}

func (s *sink) part(r *request, upload string) error {
	got, err := s.receive(r)
	if err != nil {
		return err
	}
	s.mutex.Lock()
	parts, found := s.uploads[upload]
	if found {
		parts[int(r.number("partNumber", 0))] = got
	}
	s.mutex.Unlock()
	if !found {
		return &refusal{404, "NoSuchUpload"}
	}
	r.send(200, nil, "ETag", etag(got), crc32c, written(got.crc))
	return nil
}

func (s *sink) complete(r *request, key, upload string) error {
	var document bytes.Buffer
	for {
		piece, err := r.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		document.Write(piece)
	}
	var listed struct {
		Part []struct{ PartNumber int }
	}
	if err := xml.Unmarshal(document.Bytes(), &listed); err != nil {
		return &refusal{400, "MalformedXML"}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	parts, found := s.uploads[upload]
	if !found {
		return &refusal{404, "NoSuchUpload"}
	}
	whole := sum{}
	for _, entry := range listed.Part {
		part, found := parts[entry.PartNumber]
		if !found {
			return &refusal{400, "InvalidPart"}
		}
		whole = sum{whole.size + part.size, joined(whole.crc, part.crc, part.size)}
	}
	if claimed := r.headers[crc32c]; claimed != "" && claimed != written(whole.crc) {
		return &refusal{400, "BadDigest"}
	}
	delete(s.uploads, upload)
	s.keep(key, whole)
	text := fmt.Sprintf(
		"<CompleteMultipartUploadResult><ETag>%s</ETag><ChecksumCRC32C>%s</ChecksumCRC32C><ChecksumType>%s</ChecksumType></CompleteMultipartUploadResult>",
		etag(whole), written(whole.crc), wholeObject)
	r.send(200, []byte(text), "Content-Type", "application/xml")
	return nil
}

// receive takes the request's body, framed or not, and holds it against the checksum and the length claimed for it.
func (s *sink) receive(r *request) (sum, error) {
	got, claimed := sum{}, r.headers[crc32c]
	if strings.HasPrefix(r.headers["x-amz-content-sha256"], "STREAMING-") {
		trailer, err := r.unframe(&got)
		if err != nil {
			return sum{}, err
		}
		if r.headers["x-amz-trailer"] == crc32c {
			claimed = trailer
		}
		if r.headers["x-amz-decoded-content-length"] != strconv.FormatInt(got.size, 10) {
			return sum{}, &refusal{400, "IncompleteBody"}
		}
	} else if err := r.sum(r.length, &got); err != nil {
		return sum{}, err
	}
	if claimed != written(got.crc) && (claimed != "" || r.headers["x-amz-trailer"] != "") {
		return sum{}, &refusal{400, "BadDigest"}
	}
	return got, nil
}

// sum adds the next bytes of the body to what was got.
func (r *request) sum(count int64, got *sum) error {
	after := r.length - count
	if after < 0 {
		return io.ErrUnexpectedEOF
	}
	r.length = count
	for r.length > 0 {
		piece, err := r.next()
		if err != nil {
			return err
		}
		got.crc = crc32.Update(got.crc, castagnoli, piece)
	}
	got.size += count
	r.length = after
	return nil
}

// unframe sums an aws-chunked body up and returns the CRC-32C in its trailer, "" when it has none.
func (r *request) unframe(got *sum) (string, error) {
	for {
		line, err := r.line()
		if err != nil {
			return "", err
		}
		size, _, _ := strings.Cut(line, ";")
		count, err := strconv.ParseInt(size, 16, 64)
		if err != nil {
			return "", err
		}
		if count == 0 {
			break
		}
		if err := r.sum(count, got); err != nil {
			return "", err
		}
		if line, err = r.line(); err != nil || line != "" {
			return "", io.ErrUnexpectedEOF
		}
	}
	trailer := ""
	for r.length > 0 {
		line, err := r.line()
		if err != nil {
			return "", err
		}
		if value, found := strings.CutPrefix(line, crc32c+":"); found {
			trailer = value
		}
	}
	return trailer, nil
}

// line is the next of the body, without its end.
func (r *request) line() (string, error) {
	line, err := r.in.ReadSlice('\n')
	if r.length -= int64(len(line)); err != nil || r.length < 0 {
		return "", io.ErrUnexpectedEOF
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func etag(of sum) string {
	return fmt.Sprintf(`"stub-%08x-%x"`, of.crc, of.size)
}

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net/http/httputil"
	"net/textproto"
	"strings"
	"sync"
	"time"

	"mce-bench/gotick"
)

const chunkBytes = 100

// streams lets each worker make one call; what it times is each chunk.
func streams(workers []*worker, jobs [][][]byte) {
	var all sync.WaitGroup
	for i, w := range workers {
		all.Add(1)
		go func(w *worker, request []byte) {
			defer all.Done()
			if err := w.stream(request); err != nil {
				w.errors++
				log.Print(err)
			}
		}(w, jobs[i%len(jobs)][0])
	}
	all.Wait()
}

func (w *worker) stream(request []byte) error {
	if _, err := w.connection.Write(request); err != nil {
		return err
	}
	lines := textproto.NewReader(w.reader)
	status, err := lines.ReadLine()
	if err != nil {
		return err
	}
	headers, err := lines.ReadMIMEHeader()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") || headers.Get("Transfer-Encoding") != "chunked" {
		return fmt.Errorf("answer %q is no stream", status)
	}
	body := httputil.NewChunkedReader(w.reader)
	if strings.HasPrefix(headers.Get("Content-Type"), "application/vnd.amazon.eventstream") {
		body = &events{from: body}
	}
	record := make([]byte, chunkBytes)
	for {
		_, err := io.ReadFull(body, record)
		arrived := gotick.Now()
		if err == io.EOF {
			return nil // how many there were is for the harness to check
		}
		if err != nil {
			return err
		}
		var sent int64
		var which int
		if _, err := fmt.Sscanf(string(record[:27]), "%d %d", &sent, &which); err != nil || which != len(w.times) {
			return fmt.Errorf("chunk %d is %q", len(w.times), record)
		}
		w.times = append(w.times, time.Duration(arrived-sent))
	}
}

// events is the payload within AWS event-stream frames: 4 bytes length of all, 4 of the headers, 4 checksum, headers,
// payload, 4 checksum. Checksums are not looked at: what is measured is time, and each chunk's text is checked.
type events struct {
	from io.Reader
	rest []byte
}

func (e *events) Read(into []byte) (int, error) {
	for len(e.rest) == 0 {
		var prelude [12]byte
		if _, err := io.ReadFull(e.from, prelude[:]); err != nil {
			return 0, err
		}
		total, headers := binary.BigEndian.Uint32(prelude[:4]), binary.BigEndian.Uint32(prelude[4:8])
		if total < 16 || total > 1<<24 || headers > total-16 {
			return 0, fmt.Errorf("a frame of %d bytes with %d of headers", total, headers)
		}
		frame := make([]byte, total-12)
		if _, err := io.ReadFull(e.from, frame); err != nil {
			return 0, err
		}
		e.rest = frame[headers : len(frame)-4]
	}
	n := copy(into, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

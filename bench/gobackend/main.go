// gobackend is the container behind every proxy: it reads the whole body, answers at once and costs less than any
// proxy under test. Sockets and a byte scan, not net/http: the proxy must be the limit, not what stands behind it.
//
// Run as: gobackend REPLY NAME=HOST:PORT ...
//
// REPLY is "facts" (one line "NAME LENGTH CRC32", so that a sample proves who got which bytes; the CRC is taken only
// when the Content-Type is application/x-checked), "echo", a number of bytes, or "chunks:N": N chunks of 100 bytes, one
// each 2 ms, that carry the time they were sent. Whatever REPLY is, Content-Type application/x-small gets facts, and
// "chunks" gives facts to application/x-checked. GET /count answers how many POSTs this listener has answered; any
// other GET gets an empty 200, which is what /ping needs.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mce-bench/gotick"
)

const chunkEvery = 2 * time.Millisecond

type container struct {
	name     string
	echo     bool
	fixed    []byte
	chunks   int
	answered atomic.Int64
}

type request struct {
	method, path string
	length       int64
	kind         string
}

func main() {
	runtime.GOMAXPROCS(1)
	for _, pair := range os.Args[2:] {
		name, address, _ := strings.Cut(pair, "=")
		listener, err := net.Listen("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		c := &container{name: name, echo: os.Args[1] == "echo"}
		if size, err := strconv.Atoi(os.Args[1]); err == nil {
			c.fixed = reply(bytes.Repeat([]byte("x"), size))
		}
		if _, count, is := strings.Cut(os.Args[1], "chunks:"); is {
			if c.chunks, err = strconv.Atoi(count); err != nil {
				log.Fatal(err)
			}
		}
		go c.accept(listener)
	}
	select {}
}

func (c *container) accept(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go c.serve(connection)
	}
}

// serve answers one request after another until the peer leaves or says something that no proxy should.
func (c *container) serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, 65536)
	for {
		r, err := readHead(reader)
		if err != nil {
			return
		}
		answer, err := c.answer(r, reader)
		if err != nil {
			return
		}
		if answer == nil {
			if c.stream(connection) != nil {
				return
			}
			continue
		}
		if _, err := connection.Write(answer); err != nil {
			return
		}
	}
}

func readHead(reader *bufio.Reader) (request, error) {
	r := request{length: -1}
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return r, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first {
			parts := strings.SplitN(string(line), " ", 3)
			r.method, r.path = parts[0], parts[len(parts)-2]
			continue
		}
		if len(line) == 0 {
			break
		}
		if value, is := field(line, "content-length"); is {
			r.length, err = strconv.ParseInt(string(value), 10, 64)
		} else if value, is := field(line, "content-type"); is {
			r.kind = string(value)
		}
		if err != nil {
			return r, err
		}
	}
	if r.method == "POST" && r.length < 0 {
		return r, fmt.Errorf("a POST without a length: no proxy under test makes chunks of a body that has one")
	}
	return r, nil
}

func field(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name)+1:]), true
}

// answer reads the body and returns the whole reply; none if it is to be streamed.
func (c *container) answer(r request, reader io.Reader) ([]byte, error) {
	if r.method != "POST" {
		if r.path == "/count" {
			return reply([]byte(strconv.FormatInt(c.answered.Load(), 10))), nil
		}
		return reply(nil), nil
	}
	c.answered.Add(1)
	small, checked := r.kind == "application/x-small", r.kind == "application/x-checked"
	if c.echo && !small {
		body := make([]byte, r.length)
		_, err := io.ReadFull(reader, body)
		return reply(body), err
	}
	sum := crc32.NewIEEE()
	into := io.Discard
	if checked {
		into = sum
	}
	if _, err := io.CopyN(into, reader, r.length); err != nil {
		return nil, err
	}
	if c.fixed != nil && !small {
		return c.fixed, nil
	}
	if c.chunks > 0 && !small && !checked {
		return nil, nil
	}
	return reply([]byte(fmt.Sprintf("%s %d %d", c.name, r.length, sum.Sum32()))), nil
}

// stream sends chunks of 100 bytes: when (20 digits, nanoseconds), which (6 digits), dots.
func (c *container) stream(connection io.Writer) error {
	clock, err := gotick.New(chunkEvery)
	if err != nil {
		return err
	}
	defer clock.Stop()
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
	if _, err := io.WriteString(connection, head); err != nil {
		return err
	}
	dots := strings.Repeat(".", 72)
	for sent := 0; sent < c.chunks; {
		due, err := clock.Wait()
		if err != nil {
			return err
		}
		for ; due > 0 && sent < c.chunks; due-- {
			if _, err := fmt.Fprintf(connection, "64\r\n%020d %06d %s\r\n", gotick.Now(), sent, dots); err != nil {
				return err
			}
			sent++
		}
	}
	_, err = io.WriteString(connection, "0\r\n\r\n")
	return err
}

func reply(body []byte) []byte {
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "
	made := make([]byte, 0, len(head)+len(body)+24)
	made = strconv.AppendInt(append(made, head...), int64(len(body)), 10)
	return append(append(made, "\r\n\r\n"...), body...)
}

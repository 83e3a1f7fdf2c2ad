package main

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A way is what a container does with a POST whose body it has read; true: the connection goes on.
type way func(connection net.Conn) bool

const (
	fine    = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	chunked = fine + "Transfer-Encoding: chunked\r\n\r\n"
)

var ways = map[string]way{
	"well": func(connection net.Conn) bool {
		_, err := io.WriteString(connection, fine+"Content-Length: 2\r\n\r\nok")
		return err == nil
	},
	"hangs": func(connection net.Conn) bool {
		io.Copy(io.Discard, connection) // until the router gives up
		return false
	},
	"closes": func(net.Conn) bool { return false },
	"framing": func(connection net.Conn) bool {
		io.WriteString(connection, badFrames[turn.Add(1)%int64(len(badFrames))])
		return false
	},
	"headers": func(connection net.Conn) bool {
		lines := bytes.Repeat([]byte("X-Bomb: "+strings.Repeat("b", 1000)+"\r\n"), 16)
		_, err := io.WriteString(connection, fine)
		return repeat(connection, lines, 0, err)
	},
	"drips": func(connection net.Conn) bool {
		_, err := io.WriteString(connection, chunked)
		return repeat(connection, []byte("1\r\nx\r\n"), 5*time.Millisecond, err)
	},
	"floods": func(connection net.Conn) bool {
		_, err := io.WriteString(connection, chunked)
		return repeat(connection, []byte("10000\r\n"+strings.Repeat("x", 65536)+"\r\n"), 0, err)
	},
}

var (
	turn      atomic.Int64
	badFrames = []string{
		"\x16\x03\x01 this is no HTTP\r\n\r\n",
		fine + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		fine + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		fine + "Content-Length: -1\r\n\r\nok",
		chunked + "zz\r\nok\r\n0\r\n\r\n",
		chunked + "fffffffffffffffff\r\nok",
	}
)

// repeat sends without end, until the router has had enough.
func repeat(connection net.Conn, piece []byte, pause time.Duration, err error) bool {
	for ; err == nil; time.Sleep(pause) {
		_, err = connection.Write(piece)
	}
	return false
}

func serve(listeners []string) {
	for _, pair := range listeners {
		name, address, _ := strings.Cut(pair, "=")
		do, known := ways[name]
		if !known {
			log.Fatalf("no way %q", name)
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					log.Fatal(err)
				}
				go one(connection, do)
			}
		}()
	}
	select {}
}

// one reads requests from a connection. A GET gets an empty 200 whatever the way: a container that fails its pings is
// taken out of service, and one that still answers them does the most harm.
func one(connection net.Conn, do way) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, 65536)
	for {
		post, length := false, int64(0)
		for first := true; ; first = false {
			line, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			if line = strings.TrimSpace(line); line == "" {
				break
			}
			name, value, _ := strings.Cut(line, ":")
			if first {
				post = strings.HasPrefix(line, "POST ")
			} else if strings.EqualFold(name, "Content-Length") {
				length, _ = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			}
		}
		if _, err := io.CopyN(io.Discard, reader, length); err != nil {
			return
		}
		if !post {
			if _, err := io.WriteString(connection, fine+"Content-Length: 0\r\n\r\n"); err != nil {
				return
			}
		} else if !do(connection) {
			return
		}
	}
}

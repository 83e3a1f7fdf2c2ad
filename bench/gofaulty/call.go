package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"mce-bench/gotick"
)

// patience is how long a caller reads before it hangs up.
const patience = time.Second

// call lets callers of a container have what they get: a call at each tick, if one of the workers is free. Prints how
// many calls ended how: a status, "cut" in the middle of an answer or before it, "left" by the caller.
func call(arguments []string) {
	flags := flag.NewFlagSet("call", flag.ExitOnError)
	address := flags.String("address", "", "the router")
	target := flags.String("target", "", "the container")
	rate := flags.Int("rate", 200, "calls a second")
	workers := flags.Int("workers", 8, "calls at once")
	seconds := flags.Float64("seconds", 3, "how long")
	flags.Parse(arguments)

	body := strings.Repeat("x", 1024)
	request := []byte(fmt.Sprintf("POST /invocations HTTP/1.1\r\nHost: %s\r\n"+
		"X-Amzn-SageMaker-Target-Container-Hostname: %s\r\nContent-Length: %d\r\n\r\n%s", *address, *target, len(body), body))
	clock, err := gotick.New(time.Second / time.Duration(*rate))
	if err != nil {
		log.Fatal(err)
	}
	until := time.Now().Add(time.Duration(*seconds * float64(time.Second)))
	ends := map[string]int{}
	var lock sync.Mutex
	var all sync.WaitGroup
	free := make(chan *caller, *workers)
	for i := 0; i < *workers; i++ {
		free <- &caller{address: *address}
	}
	for time.Now().Before(until) {
		if _, err := clock.Wait(); err != nil {
			log.Fatal(err)
		}
		select {
		case c := <-free:
			all.Add(1)
			go func() {
				defer all.Done()
				end := c.one(request, until)
				lock.Lock()
				ends[end]++
				lock.Unlock()
				free <- c
			}()
		default: // all of them wait
		}
	}
	all.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(ends); err != nil {
		log.Fatal(err)
	}
	os.Exit(0)
}

// caller keeps its connection for as long as the router does.
type caller struct {
	address    string
	connection net.Conn
	reader     *bufio.Reader
}

func (c *caller) one(request []byte, until time.Time) string {
	if c.connection == nil {
		connection, err := net.Dial("tcp", c.address)
		if err != nil {
			return "refused"
		}
		c.connection, c.reader = connection, bufio.NewReaderSize(connection, 65536)
	}
	limit := time.Now().Add(patience)
	if until.Before(limit) {
		limit = until
	}
	c.connection.SetDeadline(limit)
	end, keep := c.answer(request)
	if !keep {
		c.connection.Close()
		c.connection = nil
	}
	return end
}

func (c *caller) answer(request []byte) (string, bool) {
	if _, err := c.connection.Write(request); err != nil {
		return ended(err), false
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return ended(err), false
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return ended(err), false
	}
	return fmt.Sprint(response.StatusCode), !response.Close
}

func ended(err error) string {
	if timeout, is := err.(net.Error); is && timeout.Timeout() {
		return "left"
	}
	return "cut"
}

// goload sends jobs and times them. A job is one call or a chain of calls, each sent when the one before is answered.
//
// Run as: goload -address HOST:PORT -jobs one,two -bytes 1024 -seconds 3 -workers 32 [-rate 1000] [-stream]
//
// -jobs lists jobs that take turns: "one,two" are two jobs of one call, "one+two+three" is one job of three, "-" is a
// call without the target header. Without -rate each worker sends its next job when the last is answered. With -rate a
// job starts at every tick, whether or not the earlier ones are answered, as long as one of the workers is free; its
// time counts from the tick. With -stream each worker makes one call and reads the chunks of gobackend; a job is then a
// chunk, and its time the time from its sending to its arrival. Prints one JSON object; "errors" counts whatever is not a 200 with a readable body.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"mce-bench/gotick"
)

type options struct {
	address, path, jobs, kind string
	bytes, workers, rate      int
	seconds                   float64
	stream                    bool
}

type worker struct {
	connection net.Conn
	reader     *bufio.Reader
	times      []time.Duration
	errors     int
}

func main() {
	var o options
	flag.StringVar(&o.address, "address", "", "where to send")
	flag.StringVar(&o.jobs, "jobs", "-", "see above")
	flag.StringVar(&o.path, "path", "/invocations", "what to POST to")
	flag.StringVar(&o.kind, "kind", "application/octet-stream", "Content-Type of each body")
	flag.IntVar(&o.bytes, "bytes", 1024, "size of each body")
	flag.IntVar(&o.workers, "workers", 32, "connections")
	flag.IntVar(&o.rate, "rate", 0, "jobs per second; 0: as many as go")
	flag.Float64Var(&o.seconds, "seconds", 3, "how long")
	flag.BoolVar(&o.stream, "stream", false, "read a stream of chunks")
	flag.Parse()
	jobs := prepare(o)
	workers := make([]*worker, o.workers)
	for i := range workers {
		workers[i] = dial(o.address)
	}
	length := time.Duration(o.seconds * float64(time.Second))
	started := time.Now()
	calls := 0
	if o.stream {
		calls = len(workers)
		streams(workers, jobs)
	} else if o.rate > 0 {
		atRate(workers, jobs, o.rate, length)
	} else {
		asFastAsItGoes(workers, jobs, length)
	}
	report(workers, calls, time.Since(started))
}

// prepare returns the bytes of each call of each job.
func prepare(o options) [][][]byte {
	var jobs [][][]byte
	for _, job := range strings.Split(o.jobs, ",") {
		var calls [][]byte
		for _, target := range strings.Split(job, "+") {
			header := ""
			if target != "-" {
				header = "X-Amzn-SageMaker-Target-Container-Hostname: " + target + "\r\n"
			}
			head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n",
				o.path, o.address, o.kind, header, o.bytes)
			calls = append(calls, append([]byte(head), bytes.Repeat([]byte("x"), o.bytes)...))
		}
		jobs = append(jobs, calls)
	}
	return jobs
}

func dial(address string) *worker {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	return &worker{connection: connection, reader: bufio.NewReaderSize(connection, 65536)}
}

func asFastAsItGoes(workers []*worker, jobs [][][]byte, length time.Duration) {
	var all sync.WaitGroup
	until := time.Now().Add(length)
	for i, w := range workers {
		all.Add(1)
		go func(w *worker, at int) {
			defer all.Done()
			for now := time.Now(); now.Before(until) && w.errors == 0; now = time.Now() {
				w.do(jobs[at%len(jobs)], now)
				at++
			}
		}(w, i)
	}
	all.Wait()
}

func atRate(workers []*worker, jobs [][][]byte, rate int, length time.Duration) {
	free := make(chan *worker, len(workers))
	for _, w := range workers {
		free <- w
	}
	clock, err := gotick.New(time.Second / time.Duration(rate))
	if err != nil {
		log.Fatal(err)
	}
	for sent, total := 0, int(float64(rate)*length.Seconds()); sent < total; {
		due, err := clock.Wait()
		if err != nil {
			log.Fatal(err)
		}
		now := time.Now()
		for ; due > 0; due-- {
			w := <-free
			go func(job [][]byte) {
				w.do(job, now)
				free <- w
			}(jobs[sent%len(jobs)])
			sent++
		}
	}
	for range workers {
		<-free
	}
}

func (w *worker) do(job [][]byte, started time.Time) {
	for _, call := range job {
		if w.errors > 0 {
			return // the connection is of no more use
		}
		if err := w.call(call); err != nil {
			w.errors++
			log.Print(err)
			return
		}
	}
	w.times = append(w.times, time.Since(started))
}

func (w *worker) call(request []byte) error {
	if _, err := w.connection.Write(request); err != nil {
		return err
	}
	status, err := w.reader.ReadString('\n')
	if err != nil {
		return err
	}
	length := int64(-1)
	for {
		line, err := w.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return err
			}
		}
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") || length < 0 {
		return fmt.Errorf("answer %q with length %d", status, length)
	}
	_, err = io.CopyN(io.Discard, w.reader, length)
	return err
}

func report(workers []*worker, calls int, took time.Duration) {
	var times []time.Duration
	var sum time.Duration
	errors := 0
	for _, w := range workers {
		times = append(times, w.times...)
		errors += w.errors
	}
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	for _, t := range times {
		sum += t
	}
	out := map[string]float64{"requests": float64(len(times)), "microseconds": float64(took.Microseconds()),
		"errors": float64(errors)}
	if calls > 0 {
		out["calls"] = float64(calls)
	}
	if n := len(times); n > 0 {
		out["mean"] = float64(sum.Nanoseconds()) / 1000 / float64(n)
		out["p50"] = float64(times[n/2].Nanoseconds()) / 1000
		out["p99"] = float64(times[n*99/100].Nanoseconds()) / 1000
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		log.Fatal(err)
	}
}

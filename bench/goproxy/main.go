// goproxy is the Go peer: net/http/httputil.ReverseProxy, the target chosen by the header.
//
// Run as: goproxy HOST:PORT NAME=HOST:PORT ...
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
)

func main() {
	targets := map[string]string{}
	for _, pair := range os.Args[2:] {
		name, address, _ := strings.Cut(pair, "=")
		targets[name] = address
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64 // the default of 2 would open a connection for nearly every request
	transport.DisableCompression = true
	proxy := &httputil.ReverseProxy{Transport: transport, Director: func(r *http.Request) {
		r.URL.Scheme = "http"
		r.URL.Host = targets[r.Header.Get("X-Amzn-SageMaker-Target-Container-Hostname")]
	}}
	proxy.ErrorLog = log.New(os.Stderr, "", 0)
	log.Fatal(http.ListenAndServe(os.Args[1], proxy))
}

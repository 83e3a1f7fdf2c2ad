// gofaulty is a container that misbehaves, and the callers of one.
//
// Run as: gofaulty serve WAY=HOST:PORT ...
// or as:  gofaulty call -address HOST:PORT -target WAY -rate 200 -workers 8 -seconds 3
package main

import (
	"log"
	"os"
	"runtime"
)

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		serve(os.Args[2:])
	} else if len(os.Args) > 1 && os.Args[1] == "call" {
		call(os.Args[2:])
	}
	log.Fatal("gofaulty serve ... | gofaulty call ...")
}

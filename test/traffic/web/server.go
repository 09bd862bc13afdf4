// A web server for tests and benchmarks; server.ts is the same in Node. It says its port in its first line, answers 404 to
// what begins with /missing, and tells at /count how many others it has answered.
package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
)

var count atomic.Int64

func answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/count" {
		fmt.Fprint(w, count.Load())
		return
	}
	count.Add(1)
	if strings.HasPrefix(r.URL.Path, "/missing") {
		w.WriteHeader(404)
	}
	w.Write([]byte("The quick brown fox"))
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	http.Serve(l, http.HandlerFunc(answer))
}

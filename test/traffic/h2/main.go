// SPDX-License-Identifier: Apache-2.0

// HTTP/2 in clear text by Go's own server and client, for live tests: `h2 REQUESTS CONNECTIONS` serves on a free port, asks
// itself, and prints the port, then `method path status request-bytes response-bytes` of each request as the server saw it.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
)

var methods = []string{"GET", "POST", "PUT", "DELETE"}
var statuses = []int{200, 201, 404, 503, 302}

func main() {
	requests, _ := strconv.Atoi(os.Args[1])
	connections, _ := strconv.Atoi(os.Args[2])
	var lock sync.Mutex
	var log bytes.Buffer
	serve := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		status := statuses[n%len(statuses)]
		answer := bytes.Repeat([]byte("r"), n*137%40000)
		w.Header().Set("x-n", strconv.Itoa(n))
		w.WriteHeader(status)
		w.Write(answer)
		lock.Lock()
		fmt.Fprintln(&log, r.Method, r.URL.Path, status, len(body), len(answer))
		lock.Unlock()
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(serve), Protocols: &protocols}
	go server.Serve(listener)
	var clients sync.WaitGroup
	for c := 0; c < connections; c++ {
		transport := &http.Transport{Protocols: &protocols}
		client := &http.Client{Transport: transport, CheckRedirect: keep}
		clients.Add(1)
		go func() {
			defer clients.Done()
			defer transport.CloseIdleConnections()
			var calls sync.WaitGroup
			for n := 0; n < requests; n++ {
				calls.Add(1)
				go func() {
					defer calls.Done()
					ask(client, listener.Addr().String(), n)
				}()
				if n%20 == 0 {
					calls.Wait()
				}
			}
			calls.Wait()
		}()
	}
	clients.Wait()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	os.Stdout.Write(log.Bytes())
	io.Copy(io.Discard, os.Stdin)
}

func keep(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func ask(client *http.Client, address string, n int) {
	method := methods[n%len(methods)]
	var body io.Reader
	if method == "POST" || method == "PUT" {
		body = bytes.NewReader(bytes.Repeat([]byte("q"), n*71%30000))
	}
	url := fmt.Sprintf("http://%s/go/part%d?n=%d", address, n%7, n)
	request, _ := http.NewRequest(method, url, body)
	response, err := client.Do(request)
	if err != nil {
		panic(err)
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

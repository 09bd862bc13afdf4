package main

// An HTTPS server and client of Go, with HTTP/1.1 (words `h2`: with HTTP/2 where the peer speaks it).
//   peer server CERT KEY                          prints its port; at the end of its input: {"path": requests}
//   peer client PORT CONNECTIONS REQUESTS         waits for a line; prints {"requests": n}; 0 requests: until its input ends,
//                                               with pauses, so that goroutines wait in Read

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

func h2() bool { return os.Args[len(os.Args)-1] == "h2" }

// As versions of Go before 1.24 say it: a map that is empty, not nil, leaves HTTP/1.1 alone.
func protocols() map[string]func(*http.Server, *tls.Conn, http.Handler) {
	if h2() {
		return nil
	}
	return map[string]func(*http.Server, *tls.Conn, http.Handler){}
}

func serve(cert, key string) {
	var lock sync.Mutex
	counts := map[string]int{}
	handler := func(w http.ResponseWriter, r *http.Request) {
		lock.Lock()
		counts[r.URL.Path]++
		lock.Unlock()
		if strings.HasPrefix(r.URL.Path, "/missing") {
			w.WriteHeader(404)
			return
		}
		io.WriteString(w, "hello")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := http.Server{Handler: http.HandlerFunc(handler), TLSNextProto: protocols()}
	go server.ServeTLS(listener, cert, key)
	io.ReadAll(os.Stdin)
	lock.Lock()
	text, _ := json.Marshal(counts)
	fmt.Println(string(text))
}

func ask(port string, connections, requests int) {
	input := bufio.NewReader(os.Stdin)
	input.ReadString('\n')
	ended := make(chan bool)
	go func() {
		io.ReadAll(input)
		close(ended)
	}()
	goesOn := func(i int) bool {
		select {
		case <-ended:
			return i < requests
		default:
			return i < requests || requests == 0
		}
	}
	names := []string{"red", "green", "blue"}
	var wait sync.WaitGroup
	for c := 0; c < connections; c++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			client := http.Client{Transport: &http.Transport{
				TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
				ForceAttemptHTTP2: h2(),
			}}
			for i := 0; goesOn(i); i++ {
				path := "/page/" + names[i%3]
				if i%10 == 9 {
					path = "/missing"
				}
				answer, err := client.Get("https://127.0.0.1:" + port + path)
				if err != nil {
					panic(err)
				}
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if requests == 0 {
					time.Sleep(3 * time.Millisecond)
				}
			}
			client.CloseIdleConnections()
		}()
	}
	wait.Wait()
	fmt.Printf("{\"requests\": %d}\n", connections*requests)
}

func main() {
	if os.Args[1] == "server" {
		serve(os.Args[2], os.Args[3])
		return
	}
	connections, _ := strconv.Atoi(os.Args[3])
	requests, _ := strconv.Atoi(os.Args[4])
	ask(os.Args[2], connections, requests)
}

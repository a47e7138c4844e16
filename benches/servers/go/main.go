// A typical hub with Go's net/http: a channel for each client, in a map behind a lock.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

type hub struct {
	lock    sync.RWMutex
	clients map[chan []byte]bool
}

func (h *hub) subscribe(w http.ResponseWriter, r *http.Request) {
	client := make(chan []byte, 1024)
	h.lock.Lock()
	h.clients[client] = true
	h.lock.Unlock()
	defer func() {
		h.lock.Lock()
		delete(h.clients, client)
		h.lock.Unlock()
	}()
	begin(w)
	for {
		select {
		case data := <-client:
			send(w, data)
		case <-r.Context().Done():
			return
		}
	}
}

func (h *hub) publish(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.lock.RLock()
	defer h.lock.RUnlock()
	for client := range h.clients {
		select {
		case client <- data:
		default: // A client that lags misses messages without notice.
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func begin(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.(http.Flusher).Flush()
}

func send(w http.ResponseWriter, data []byte) {
	fmt.Fprintf(w, "data: %s\n\n", data)
	w.(http.Flusher).Flush()
}

func main() {
	h := &hub{clients: map[chan []byte]bool{}}
	http.HandleFunc("/events", h.subscribe)
	http.HandleFunc("/publish", h.publish)
	http.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		begin(w)
		send(w, []byte("hello"))
		<-r.Context().Done()
	})
	http.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		begin(w)
		data := []byte("~" + strings.Repeat("0", 30) + "0064" + strings.Repeat(".", 64) + "$")
		for r.Context().Err() == nil {
			send(w, data)
		}
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}

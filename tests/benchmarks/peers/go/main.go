// The Go peer: the gateway's listing, download and archive routes on net/http alone.
//
// It authenticates by the SHA-256 digest of the key, compared in constant time, lists with
// ReadDir+Info, streams recursive listings out of WalkDir, and leaves files to http.ServeFile
// (sendfile, ranges, conditional requests, content sniffing). Archives are streamed by archive/zip
// and archive/tar, compressed at level 1 by writers out of a pool. With -upstream it reads no files but
// leaves the download route to httputil.ReverseProxy, behind the same check of the key.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io/fs"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

type entry struct {
	Name       string `json:"name"`
	Path       string `json:"path"`
	Size       int64  `json:"size"`
	IsDir      bool   `json:"is_dir"`
	ModifiedAt string `json:"modified_at"`
}

type listing struct {
	SessionID string  `json:"session_id"`
	Path      string  `json:"path"`
	Files     []entry `json:"files"`
}

type server struct {
	root   string
	digest []byte
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "where to listen")
	root := flag.String("root", ".", "the directory that holds the sessions")
	key := flag.String("sha256", "", "the digest of the one key, in hex")
	upstream := flag.String("upstream", "", "the base URL of another peer that has the files")
	flag.Parse()
	digest, err := hex.DecodeString(*key)
	if err != nil || len(digest) != sha256.Size {
		log.Fatal("sha256: 64 hex digits, please")
	}
	s := &server{root: *root, digest: digest}
	mux := http.NewServeMux()
	for _, path := range []string{"/livez", "/readyz"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Write([]byte(`{"status":"ok"}`))
		})
	}
	file := s.file
	if *upstream == "" {
		mux.HandleFunc("GET /api/v1/sessions/{session}/files", s.authenticated(s.list))
		mux.HandleFunc("GET /api/v1/sessions/{session}/archive", s.authenticated(s.archive))
	} else {
		base, err := url.Parse(*upstream)
		if err != nil {
			log.Fatal(err)
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 64 // by default 2, and every further request connects anew
		proxy := httputil.NewSingleHostReverseProxy(base)
		proxy.Transport = transport
		file = proxy.ServeHTTP
	}
	mux.HandleFunc("GET /api/v1/sessions/{session}/files/{path...}", s.authenticated(file))
	log.Fatal(http.ListenAndServe(*addr, mux))
}

func (s *server) authenticated(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "private, no-cache")
		sum := sha256.Sum256([]byte(r.Header.Get("X-API-Key")))
		if subtle.ConstantTimeCompare(sum[:], s.digest) != 1 {
			h.Set("WWW-Authenticate", `Bearer realm="workspace-gateway"`)
			refuse(w, http.StatusUnauthorized, "missing or invalid credentials")
			return
		}
		if !isSessionID(r.PathValue("session")) {
			refuse(w, http.StatusBadRequest, "invalid session id")
			return
		}
		next(w, r)
	}
}

func (s *server) file(w http.ResponseWriter, r *http.Request) {
	path := filepath.FromSlash(r.PathValue("path"))
	if !filepath.IsLocal(path) {
		refuse(w, http.StatusBadRequest, "invalid path: traversal not allowed")
		return
	}
	h := w.Header()
	h.Set("Content-Disposition", "attachment")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	http.ServeFile(w, r, filepath.Join(s.root, r.PathValue("session"), path))
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	session := r.PathValue("session")
	dir := filepath.Join(s.root, session)
	query := r.URL.Query()
	relative := query.Get("path")
	if relative == "" || relative == "/" {
		relative = "."
	}
	if !filepath.IsLocal(relative) {
		refuse(w, http.StatusBadRequest, "invalid path: traversal not allowed")
		return
	}
	rooted := "/"
	if relative = filepath.Clean(relative); relative != "." {
		rooted += relative
	}
	if recursive := query.Get("recursive"); recursive == "true" || recursive == "1" {
		s.walk(w, session, filepath.Join(dir, relative), rooted)
		return
	}
	children, err := os.ReadDir(filepath.Join(dir, relative))
	if err != nil {
		refuse(w, http.StatusNotFound, "not found")
		return
	}
	answer := listing{SessionID: session, Path: rooted, Files: make([]entry, 0, len(children))}
	prefix := rooted
	if prefix != "/" {
		prefix += "/"
	}
	for _, child := range children {
		if found, err := describe(prefix+child.Name(), child); err == nil {
			answer.Files = append(answer.Files, found)
		}
	}
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answer); err != nil {
		refuse(w, http.StatusInternalServerError, "the listing could not be written")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(buffer.Len()))
	w.Write(buffer.Bytes())
}

// walk streams: what it holds is one directory and 64 KiB of text.
func (s *server) walk(w http.ResponseWriter, session, dir, rooted string) {
	if _, err := os.Stat(dir); err != nil {
		refuse(w, http.StatusNotFound, "not found")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	out := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	head, _ := json.Marshal(listing{SessionID: session, Path: rooted})
	out.Write(bytes.TrimSuffix(head, []byte("null}")))
	out.WriteByte('[')
	first := true
	base := len(dir)
	if rooted == "/" {
		rooted = ""
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if len(path) == base {
			return nil
		}
		found, err := describe(rooted+path[base:], d)
		if err != nil {
			return nil // gone since the directory was read
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		return encoder.Encode(found)
	})
	if err != nil {
		panic(http.ErrAbortHandler) // never a clean end behind half an answer
	}
	out.WriteString("]}")
	out.Flush()
}

func describe(path string, d fs.DirEntry) (entry, error) {
	info, err := d.Info()
	if err != nil {
		return entry{}, err
	}
	size := info.Size()
	if info.IsDir() {
		size = 0
	}
	modified := info.ModTime().UTC().Format("2006-01-02T15:04:05Z")
	return entry{d.Name(), path, size, info.IsDir(), modified}, nil
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": message})
}

func isSessionID(id string) bool {
	for i := 0; i < len(id); i++ {
		c := id[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '-') {
			return false
		}
	}
	return 0 < len(id) && len(id) <= 128
}

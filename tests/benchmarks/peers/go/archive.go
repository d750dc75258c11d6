package main

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/flate"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
)

var (
	outputs = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 64<<10) }}
	copies  = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}
	flates  = sync.Pool{New: func() any { w, _ := flate.NewWriter(nil, flate.BestSpeed); return w }}
	gzips   = sync.Pool{New: func() any { w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed); return w }}
)

// pooled gives its flate.Writer back: a new one costs more than a small file.
type pooled struct{ *flate.Writer }

func (p pooled) Close() error {
	defer flates.Put(p.Writer)
	return p.Writer.Close()
}

// archiver is what zip and tar have in common: open a member, then copy into it.
type archiver interface {
	add(name string, info fs.FileInfo) (io.Writer, error)
	io.Closer
}

type zipper struct {
	*zip.Writer
	method uint16
}

func (z zipper) add(name string, info fs.FileInfo) (io.Writer, error) {
	header, err := zip.FileInfoHeader(info)
	if err != nil {
		return nil, err
	}
	header.Name = name
	if !info.IsDir() {
		header.Method = z.method
	}
	return z.CreateHeader(header)
}

type tarrer struct {
	*tar.Writer
	compressed *gzip.Writer
}

func (t tarrer) add(name string, info fs.FileInfo) (io.Writer, error) {
	header, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return nil, err
	}
	header.Name = name
	return t.Writer, t.WriteHeader(header)
}

func (t tarrer) Close() error {
	defer gzips.Put(t.compressed)
	if err := t.Writer.Close(); err != nil {
		return err
	}
	return t.compressed.Close()
}

// archive streams: what it holds is the names of a directory and the buffers above.
func (s *server) archive(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	dir := filepath.Join(s.root, r.PathValue("session"))
	if path := query.Get("path"); path != "" {
		if !filepath.IsLocal(path) {
			refuse(w, http.StatusBadRequest, "invalid path: traversal not allowed")
			return
		}
		dir = filepath.Join(dir, path)
	}
	out := outputs.Get().(*bufio.Writer)
	defer outputs.Put(out)
	out.Reset(w)
	var a archiver
	switch query.Get("format") {
	case "zip":
		z := zipper{zip.NewWriter(out), zip.Deflate}
		if query.Get("stored") == "true" {
			z.method = zip.Store
		}
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
			f := flates.Get().(*flate.Writer)
			f.Reset(w)
			return pooled{f}, nil
		})
		w.Header().Set("Content-Type", "application/zip")
		a = z
	case "tar.gz":
		g := gzips.Get().(*gzip.Writer)
		g.Reset(out)
		w.Header().Set("Content-Type", "application/gzip")
		a = tarrer{tar.NewWriter(g), g}
	default:
		refuse(w, http.StatusBadRequest, "format: zip or tar.gz")
		return
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return member(a, path, path[len(dir)+1:], d)
	})
	if err != nil || a.Close() != nil || out.Flush() != nil {
		panic(http.ErrAbortHandler) // never a clean end behind half an archive
	}
}

func member(a archiver, path, name string, d fs.DirEntry) error {
	if !d.IsDir() && !d.Type().IsRegular() {
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	if d.IsDir() {
		_, err = a.add(name+"/", info)
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	into, err := a.add(name, info)
	if err != nil {
		return err
	}
	buffer := copies.Get().(*[]byte)
	defer copies.Put(buffer)
	_, err = io.CopyBuffer(into, struct{ io.Reader }{file}, *buffer)
	return err
}

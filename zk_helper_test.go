package main

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// What internal/coins promises, as seen from outside.
const (
	coinFileLook     = 2 * time.Second // between two looks at the coin file
	zkComplaintEvery = time.Minute     // lines of one kind about ZooKeeper
	zkMaxServerID    = 255
	zkNoRead         = zktest.NoRead
)

var (
	mustDo     = testkit.Must
	zkServer   = zktest.Shared
	newZKProxy = zktest.StartProxy
	zkTestRoot = &zktest.Roots
)

func writeCoinFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// zkAdmin plays the operator and the other services.
type zkAdmin struct{ *zktest.Admin }

func newZKAdmin(t *testing.T, addrs ...string) *zkAdmin {
	t.Helper()
	return &zkAdmin{zktest.NewAdmin(t, addrs...)}
}

func (a *zkAdmin) put(path, value string)               { a.Put(path, value) }
func (a *zkAdmin) remove(path string)                   { a.Remove(path) }
func (a *zkAdmin) get(path string) (zktest.Node, bool)  { return a.Get(path) }
func (a *zkAdmin) children(dir string) []string         { return a.Children(dir) }
func (a *zkAdmin) allow(path string, permissions int32) { a.Allow(path, permissions) }
func (a *zkAdmin) await(what string, done func() bool)  { a.Await(what, done) }

// says answers like another service, once it was asked.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.Read(make([]byte, 100))
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
}

// zkGreetingText is a ZooKeeper server's greeting.
const zkGreetingText = "\x00\x00\x00\x25" + "\x00\x00\x00\x00" + "\x00\x00\x0f\xa0" + "\x01\x00\x00\x00\x00\x00\x00\x01" +
	"\x00\x00\x00\x10" + "0123456789abcdef" + "\x00"

//go:build linux && !portable_relay

package relay

import (
	"testing"
	"unsafe"
)

// Each session has two sockets. Go's allocator would round a larger size up to 80
// bytes.
func TestSocketSize(t *testing.T) {
	if size := unsafe.Sizeof(Socket{}); size > 64 {
		t.Errorf("a socket takes %d bytes, want at most 64", size)
	}
}

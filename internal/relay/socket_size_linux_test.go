//go:build linux && !portable_relay

package relay

import (
	"testing"
	"unsafe"
)

// Each session has two sockets. Go's allocator would round a larger size up to 112
// bytes.
func TestSocketSize(t *testing.T) {
	if size := unsafe.Sizeof(Socket{}); size > 96 {
		t.Errorf("a socket takes %d bytes, want at most 96", size)
	}
}

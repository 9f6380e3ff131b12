package testkit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// PickingPool starts a pool that picks its miners' extranonce, with an extranonce1 of
// length bytes and an extranonce2 of size bytes.
func PickingPool(t testing.TB, name string, length, size int) *stratumtest.Pool {
	t.Helper()
	return StartPool(t, stratumtest.PoolOptions{
		Name: name, ShareBits: 3, VersionMask: 0x1fffe000, Own: &stratumtest.OwnExtranonce{Len: length, Size: size},
	})
}

// PickingScene is one miner at a scripted pool that picks the extranonce. The test sends
// and reads each line of both.
type PickingScene struct {
	T           testing.TB
	Miner, Pool *stratumtest.Raw
	Scripted    *ScriptedPool
}

// SceneJob returns the line of a job with these coinbase parts.
func SceneJob(id, coinb1, coinb2 string, clean bool) string {
	return fmt.Sprintf(`{"id":null,"method":"mining.notify","params":["%s","00","%s","%s",[],"20000000","1d00ffff","5f000000",%v]}`, id, coinb1, coinb2, clean)
}

// SceneShare returns the line of a share with this extranonce2.
func SceneShare(id int, job, extranonce2 string) string {
	return fmt.Sprintf(`{"id":%d,"method":"mining.submit","params":["alice.1","%s","%s","5f000000","00000000"]}`, id, job, extranonce2)
}

// SetExtranonce returns a mining.set_extranonce line with extranonce1 p and an extranonce2
// of size bytes.
func SetExtranonce(p string, size int) string {
	return fmt.Sprintf(`{"id":null,"method":"mining.set_extranonce","params":["%s",%d]}`, p, size)
}

// Handshake makes the pool answer subscribe, with extranonce1 p and an extranonce2 of size
// bytes, and then authorize. The pool sends the lines between before its answer to
// authorize, and the lines after following it.
func (s *PickingScene) Handshake(p string, size int, between, after []string) {
	s.T.Helper()
	subscribe := s.Pool.Line(stratumtest.Patience)
	if WithOwnID(subscribe, 0) != WithOwnID(`{"id":0,"method":"mining.subscribe","params":["raw/1.0"]}`, 0) {
		s.T.Errorf("the pool got an unexpected subscribe: %s", subscribe)
	}
	s.Pool.SendLine(fmt.Sprintf(`{"id":%s,"result":[[["mining.notify","x"]],"%s",%d],"error":null}`, stratum.LineID([]byte(subscribe)), p, size))
	authorize := s.Pool.ExpectMethod("mining.authorize")
	for _, line := range between {
		s.Pool.SendLine(line)
	}
	s.Pool.SendLine(GoodAnswer(string(stratum.LineID([]byte(authorize)))))
	for _, line := range after {
		s.Pool.SendLine(line)
	}
}

// Share makes the miner submit a share. It fails the test unless the pool gets the share
// with extranonce2 want and the miner gets the pool's answer.
func (s *PickingScene) Share(id int, job, want string) {
	s.T.Helper()
	s.Miner.SendLine(SceneShare(id, job, "aabbcc"))
	s.Pool.ExpectLine(SceneShare(id, job, want))
	s.Pool.SendLine(GoodAnswer(fmt.Sprint(id)))
	s.Miner.ExpectLine(GoodAnswer(fmt.Sprint(id)))
}

// WantExtranonce2Size fails the test unless a new miner gets an extranonce1 of one byte
// and an extranonce2 of this size.
func WantExtranonce2Size(t testing.TB, addr string, size int) {
	t.Helper()
	r := stratumtest.DialRaw(t, addr)
	defer r.Close()
	r.SendLine(RawSubscribe)
	line := r.Line(stratumtest.Patience)
	if !strings.HasSuffix(line, fmt.Sprintf(`],%q,%d],"error":null}`, line[strings.Index(line, `mining.notify","`)+16:][:2], size)) {
		t.Errorf("want extranonce2 size %d, got %s", size, line)
	}
}

package main

import (
	"fmt"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

func staleAnswer(id string) string {
	return fmt.Sprintf(`{"id":%s,"result":null,"error":[21,"Stale share",1]}`, id)
}

// A pool that picks the extranonce is lost and comes back. If it gives another extranonce,
// shares for the former connection's jobs are stale and go nowhere, although the pool may
// use the same job ID again. If it gives the same one, they are as good as before.
func TestLateShareAfterALostExtranonce(t *testing.T) {
	t.Parallel()
	for _, drain := range []int{0, 5} {
		for _, same := range []bool{false, true} {
			t.Run(fmt.Sprintf("drain %d s, same extranonce %v", drain, same), func(t *testing.T) {
				t.Parallel()
				s := startPickingSceneWith(t, func(c *Config) { c.DrainSeconds = drain })
				s.sw.setTiming(impatient)
				s.Handshake("aaaaaaaa", 4, nil, []string{sceneJob("a", "01", "02", true)})
				s.Miner.ExpectLine(goodAnswer("2"))
				s.Miner.ExpectLine(sceneJob("a", "01aaaaaaaa", "02", true))
				s.Pool.Close()
				s.Pool = s.Scripted.Next()
				if same {
					s.Handshake("aaaaaaaa", 4, nil, []string{sceneJob("b", "03", "04", true)})
					s.Miner.ExpectLine(sceneJob("b", "03aaaaaaaa", "04", true))
					s.Share(3, "a", "80aabbcc")
					s.Share(4, "b", "80aabbcc")
					return
				}
				s.Handshake("bbbbbbbb", 4, nil, []string{sceneJob("a", "03", "04", true)})
				s.Miner.ExpectLine(sceneJob("a0", "03bbbbbbbb", "04", true))
				s.Miner.SendLine(testkit.SceneShare(3, "a", "aabbcc"))
				s.Miner.ExpectLine(staleAnswer("3"))
				s.Miner.SendLine(testkit.SceneShare(4, "a0", "aabbcc"))
				s.Pool.ExpectLine(testkit.SceneShare(4, "a", "80aabbcc"))
				s.Pool.SendLine(goodAnswer("4"))
				s.Miner.ExpectLine(goodAnswer("4"))
			})
		}
	}
}

package testkit

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// MineOn submits a share now and then and reads what comes, until the
// connection ends. Shares must be accepted.
func (l *Login) MineOn(pause time.Duration, failed func(string)) (stop func()) {
	var all sync.WaitGroup
	ended := make(chan struct{})
	job, lost := make(chan string, 1), false
	job <- l.Pool + "-0"
	all.Go(func() {
		for {
			line, err := l.R.ReadString('\n')
			select {
			case <-ended:
				return
			default:
			}
			if err != nil {
				failed("closed: " + err.Error())
				return
			}
			switch {
			case strings.Contains(line, `"mining.notify"`):
				_, rest, _ := strings.Cut(line, `"params":["`)
				id, _, _ := strings.Cut(rest, `"`)
				<-job
				job <- id
			case !strings.HasPrefix(line, `{"id":null`) && !strings.Contains(line, `"result":true`) && !lost:
				lost = true
				failed(strings.TrimSpace(line))
			}
		}
	})
	all.Go(func() {
		for i := 3; ; i++ {
			select {
			case <-ended:
				return
			case <-time.After(pause):
			}
			id := <-job
			job <- id
			fmt.Fprintln(l.Nc, ShareLine(fmt.Sprint(i), id))
		}
	})
	return func() { close(ended); l.Close(); all.Wait() }
}

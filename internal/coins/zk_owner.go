package coins

import (
	"strings"
	"time"

	"github.com/golang/glog"
)

// The goroutine that owns the state of a ZooKeeper source: how it gives requests to the
// workers, and what it does when the connection reports an event.

func (s *ZooKeeper) runOwner() {
	defer s.ended.Done()
	for {
		select {
		case <-s.stop:
			s.finish()
			return
		case <-s.mail.ready:
			for _, work := range s.mail.take() {
				work()
			}
		}
	}
}

// begin is the first work of the owner.
func (s *ZooKeeper) begin() {
	s.serverID.begin()
	s.audit.begin()
	s.warning = time.AfterFunc(s.warnWait, func() { s.mail.post(s.warnUnavailable) })
}

// finish ends the owner: it stops the timers and answers the open queries.
func (s *ZooKeeper) finish() {
	s.mail.close()
	close(s.jobs)
	if s.warning != nil {
		s.warning.Stop()
	}
	if s.audit.timer != nil {
		s.audit.timer.Stop()
	}
	for _, r := range s.registrations {
		r.timer.Stop()
	}
	for _, q := range s.queries.close() {
		s.queries.refuse(q, ErrClosed)
	}
}

// zkJob makes requests on a worker's goroutine. The owner then calls finish.
type zkJob func() (finish func())

// do gives a job to the workers. Urgent jobs, for which a miner waits, come before the
// many jobs of a reconnect.
func (s *ZooKeeper) do(urgent bool, job zkJob) {
	if urgent {
		s.urgent = append(s.urgent, job)
	} else {
		s.bulk = append(s.bulk, job)
	}
	s.feed()
}

// feed gives queued jobs to the workers that are free.
func (s *ZooKeeper) feed() {
	for s.busy < zkWorkers {
		queue := &s.urgent
		if len(*queue) == 0 {
			queue = &s.bulk
		}
		if len(*queue) == 0 {
			return
		}
		job := (*queue)[0]
		(*queue)[0] = nil
		*queue = (*queue)[1:]
		s.busy++
		s.jobs <- job // this does not block, because the channel has room for one job per worker
	}
}

func (s *ZooKeeper) runWorker() {
	defer s.ended.Done()
	for job := range s.jobs {
		finish := job()
		s.mail.post(func() {
			s.busy--
			finish()
			s.feed()
		})
	}
}

// after makes the owner call work after a pause.
func (s *ZooKeeper) after(wait time.Duration, work func()) *time.Timer {
	return time.AfterFunc(wait, func() { s.mail.post(work) })
}

// handleEvent is called by the client's goroutines. The mailbox never holds more node
// events than there are watches.
func (s *ZooKeeper) handleEvent(event zkEvent) {
	s.mail.post(func() { s.event(event) })
}

func (s *ZooKeeper) event(event zkEvent) {
	switch event.kind {
	case zkConnected:
		s.handleConnected()
	case zkDisconnected, zkExpired:
		if s.connected {
			s.connected = false
			s.limitedLog.Warningf("connection lost", "zookeeper: connection lost, known sub-accounts keep their coins")
			s.warning = s.after(s.warnWait, s.warnUnavailable)
		}
		if event.kind == zkExpired {
			s.limitedLog.Warningf("session expired", "zookeeper: session expired")
		}
	case zkNodeChanged:
		s.nodeChanged(event.path)
	case zkWatchLost:
		s.watchLost(event.path)
	case zkBrokerFailed:
		s.brokerFailed(event.path, event.why, event.wrong)
	}
}

// handleConnected resumes everything that waits for the broker. It reads all watched
// nodes again, because a change may have been missed.
func (s *ZooKeeper) handleConnected() {
	s.connected = true
	s.warnWait = zkFirstWarning
	if s.warning != nil {
		s.warning.Stop()
	}
	if s.wasConnected {
		s.limitedLog.Infof("connected", "zookeeper: connected again, reading %d sub-accounts", len(s.accounts))
	} else {
		s.limitedLog.Infof("connected", "zookeeper: connected")
	}
	s.wasConnected = true
	s.serverID.check()
	for _, r := range s.registrations {
		s.advance(r)
	}
	s.resolveAll()
	for _, a := range s.accounts {
		s.readCoin(a)
	}
}

// warnUnavailable logs that there is no connection, and schedules the next warning.
func (s *ZooKeeper) warnUnavailable() {
	if s.connected {
		return
	}
	glog.Warningf("zookeeper: no broker of %s can be reached, still trying", strings.Join(s.opts.Brokers, ", "))
	s.warnWait = min(s.warnWait*3, zkLastWarning)
	s.warning = s.after(s.warnWait, s.warnUnavailable)
}

func (s *ZooKeeper) nodeChanged(path string) {
	if s.serverID.path != "" && path == s.serverID.path {
		s.serverID.check()
	}
	if name, ok := strings.CutPrefix(path, s.opts.CoinDir); ok {
		if a := s.accounts[name]; a != nil {
			s.readCoin(a)
		}
	}
	if name, ok := strings.CutPrefix(path, s.opts.AutoRegDir); ok && s.opts.AutoRegDir != "" {
		if r := s.registrations[name]; r != nil {
			s.advance(r)
		}
	}
}

package coins

import (
	"fmt"
	"time"

	"github.com/golang/glog"
)

// zkComplaintEvery is the least time between two lines of the same kind.
const zkComplaintEvery = time.Minute

// zkComplaint is a kind of log line that thousands of nodes can cause at once. The
// first line is written at once, and then one a minute with the number of the others.
// It belongs to the owner.
type zkComplaint struct {
	source     *ZooKeeper
	log        func(depth int, args ...any) // glog.ErrorDepth or glog.WarningDepth
	pause      *time.Timer                  // runs until the next line may be written; nil if one may be written now
	last       string
	suppressed int
}

func (s *ZooKeeper) newComplaint(log func(int, ...any)) *zkComplaint {
	return &zkComplaint{source: s, log: log}
}

// add writes the line, or counts it.
func (c *zkComplaint) add(format string, args ...any) {
	c.last = fmt.Sprintf(format, args...)
	if c.pause != nil {
		c.suppressed++
		return
	}
	c.write()
}

func (c *zkComplaint) write() {
	line := "zookeeper: " + c.last
	if c.suppressed > 1 {
		line = fmt.Sprintf("%s (and %d more in the last minute)", line, c.suppressed-1)
	}
	c.suppressed = 0
	c.log(2, line)
	c.pause = c.source.after(zkComplaintEvery, func() {
		c.pause = nil
		if c.suppressed > 0 {
			c.write()
		}
	})
}

// brokerFailed logs that a broker does not answer as ZooKeeper does. wrong means that
// it is another program and not only out of service. Each broker has its own
// complaint.
func (s *ZooKeeper) brokerFailed(address, why string, wrong bool) {
	c := s.brokerComplaints[address]
	if c == nil {
		c = s.newComplaint(nil)
		s.brokerComplaints[address] = c
	}
	c.log = glog.WarningDepth
	if wrong {
		c.log = glog.ErrorDepth
	}
	c.add("%s %s", address, why)
}

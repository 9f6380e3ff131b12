package coins

import (
	"fmt"
	"time"

	"github.com/golang/glog"
)

// zkComplaintEvery is the least time between two lines of one kind.
const zkComplaintEvery = time.Minute

// zkComplaint is a kind of log line that thousands of nodes can cause at once. The
// first line is written, and then one a minute with the number of the others. It
// belongs to the owner.
type zkComplaint struct {
	source *ZooKeeper
	log    func(depth int, args ...any) // glog.ErrorDepth or glog.WarningDepth
	quiet  *time.Timer                  // runs until the next line may be written; nil if it may be now
	last   string
	unsaid int
}

func (s *ZooKeeper) newComplaint(log func(int, ...any)) *zkComplaint {
	return &zkComplaint{source: s, log: log}
}

// add writes the line, or counts it.
func (c *zkComplaint) add(format string, args ...any) {
	c.last = fmt.Sprintf(format, args...)
	if c.quiet != nil {
		c.unsaid++
		return
	}
	c.write()
}

func (c *zkComplaint) write() {
	line := "zookeeper: " + c.last
	if c.unsaid > 1 {
		line = fmt.Sprintf("%s (and %d more in the last minute)", line, c.unsaid-1)
	}
	c.unsaid = 0
	c.log(2, line)
	c.quiet = c.source.after(zkComplaintEvery, func() {
		c.quiet = nil
		if c.unsaid > 0 {
			c.write()
		}
	})
}

// brokerFailed logs that a broker does not answer as ZooKeeper does. wrong says that it
// is something else, and not only out of service. Each broker has a complaint of its
// own.
func (s *ZooKeeper) brokerFailed(address, why string, wrong bool) {
	c := s.strangers[address]
	if c == nil {
		c = s.newComplaint(nil)
		s.strangers[address] = c
	}
	c.log = glog.WarningDepth
	if wrong {
		c.log = glog.ErrorDepth
	}
	c.add("%s %s", address, why)
}

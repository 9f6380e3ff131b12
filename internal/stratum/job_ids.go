package stratum

// JobSet holds the jobKeys of the IDs of a link's jobs. It has at most MaxDrainJobs of them.
type JobSet map[string]struct{}

// Add adds the job of a mining.notify line or of an ETHProxy pool's answer.
func (j JobSet) Add(line []byte) {
	id := JobID(line)
	if id == nil {
		id = AnswerJobID(line)
	}
	if id != nil && len(id) <= MaxMinerLine && len(j) < MaxDrainJobs {
		var long longKey
		j[string(jobKey(PlainID(id), &long))] = struct{}{}
	}
}

// Has reports whether the set has an ID. The ID must have no escapes.
func (j JobSet) Has(id []byte) bool {
	var long longKey
	_, ok := j[string(jobKey(id, &long))]
	return ok
}

// NewJobSet returns the set with these jobKeys.
func NewJobSet(ids []string) JobSet {
	jobs := make(JobSet, len(ids))
	for _, id := range ids {
		jobs[id] = struct{}{}
	}
	return jobs
}

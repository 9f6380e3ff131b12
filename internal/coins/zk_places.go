package coins

import (
	"net/netip"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hostaddr"
)

// zkPlaceShare says which part of the places one address may keep while there are none
// for others: a fifth, but at least one place.
const zkPlaceShare = 5

// regPlaces shares out the places for registrations. An address may have all of them
// as long as nobody else wants one, because a whole farm may be behind it, or a load
// balancer that does not pass addresses on. When all places are taken, an address with
// more than its share has to give one up.
//
// A registration counts for every address that waits for it (see hostaddr.Key).
// regPlaces belongs to the owner.
type regPlaces struct {
	most    int
	taken   int
	held    map[netip.Addr]int // places by address
	counter uint64
}

func (p *regPlaces) free() bool { return p.taken < p.most }

func (p *regPlaces) share() int { return max(p.most/zkPlaceShare, 1) }

// take gives a place to a registration, which counts for those who wait for it.
func (p *regPlaces) take(r *zkRegistration) {
	p.taken++
	p.counter++
	r.hasPlace, r.number, r.addresses = true, p.counter, make(map[netip.Addr]int)
	for q := range r.account.waiting {
		p.join(r, q)
	}
}

// leave gives the place back, if the registration has one.
func (p *regPlaces) leave(r *zkRegistration) {
	if !r.hasPlace {
		return
	}
	p.taken--
	for addr := range r.addresses {
		p.drop(addr)
	}
	r.hasPlace, r.addresses = false, nil
}

// join counts a query that waits for a registration.
func (p *regPlaces) join(r *zkRegistration, q *Query) {
	if !r.hasPlace {
		return
	}
	addr := hostaddr.Key(q.Addr)
	if r.addresses[addr]++; r.addresses[addr] == 1 {
		p.held[addr]++
	}
}

// part undoes join.
func (p *regPlaces) part(r *zkRegistration, q *Query) {
	if !r.hasPlace {
		return
	}
	addr := hostaddr.Key(q.Addr)
	if r.addresses[addr]--; r.addresses[addr] <= 0 {
		delete(r.addresses, addr)
		p.drop(addr)
	}
}

func (p *regPlaces) drop(addr netip.Addr) {
	if p.held[addr]--; p.held[addr] <= 0 {
		delete(p.held, addr)
	}
}

// excess returns how many places over its share the most modest of a registration's
// addresses has. It is 0 or less if one of them is within its share.
func (p *regPlaces) excess(r *zkRegistration) int {
	least := p.most
	for addr := range r.addresses {
		if least = min(least, p.held[addr]-p.share()); least <= 0 {
			break
		}
	}
	return least
}

// makePlace ends the latest registration of the address that is furthest over its
// share, so that the account gets the place. It reports whether there is a place now.
// Addresses that already have their share get none.
func (s *ZooKeeper) makePlace(a *zkAccount) bool {
	p := &s.places
	modest := false
	for q := range a.waiting {
		if p.held[hostaddr.Key(q.Addr)] < p.share() {
			modest = true
			break
		}
	}
	if !modest {
		return false
	}
	var last *zkRegistration
	most := 0
	for _, r := range s.registrations {
		if !r.hasPlace {
			continue
		}
		if excess := p.excess(r); excess > most || excess == most && excess > 0 && r.number > last.number {
			last, most = r, excess
		}
	}
	if last == nil {
		return false
	}
	s.registering.add("all %d places for registrations are taken, %s gives one up: its address has more than its share",
		p.most, last.account.name)
	s.answerAll(last.account, ErrRegistrationBusy)
	return p.free()
}

package coins

import (
	"net/netip"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hostaddr"
)

// zkPlaceShare defines the share of an address: the places divided by zkPlaceShare, but
// at least one place. An address may keep its share even if no place is free for others.
const zkPlaceShare = 5

// regPlaces distributes the places for registrations, of which there are AutoRegMaxWait.
// An address may have all of them as long as no other address needs one, because it may
// be that of a whole farm, or of a load balancer that does not pass addresses on. When
// all places are taken, an address with more than its share has to give one up.
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

// take gives a place to a registration. The place counts for all queries that wait for
// the registration.
func (p *regPlaces) take(r *zkRegistration) {
	p.taken++
	p.counter++
	r.hasPlace, r.number, r.addresses = true, p.counter, make(map[netip.Addr]int)
	for q := range r.account.waiting {
		p.addWaiter(r, q)
	}
}

// giveBack frees the registration's place if it has one.
func (p *regPlaces) giveBack(r *zkRegistration) {
	if !r.hasPlace {
		return
	}
	p.taken--
	for addr := range r.addresses {
		p.drop(addr)
	}
	r.hasPlace, r.addresses = false, nil
}

// addWaiter counts a query that waits for a registration.
func (p *regPlaces) addWaiter(r *zkRegistration, q *Query) {
	if !r.hasPlace {
		return
	}
	addr := hostaddr.Key(q.Addr)
	if r.addresses[addr]++; r.addresses[addr] == 1 {
		p.held[addr]++
	}
}

// removeWaiter undoes addWaiter.
func (p *regPlaces) removeWaiter(r *zkRegistration, q *Query) {
	if !r.hasPlace {
		return
	}
	addr := hostaddr.Key(q.Addr)
	if r.addresses[addr]--; r.addresses[addr] <= 0 {
		delete(r.addresses, addr)
		p.drop(addr)
	}
}

// drop counts one place less for an address.
func (p *regPlaces) drop(addr netip.Addr) {
	if p.held[addr]--; p.held[addr] <= 0 {
		delete(p.held, addr)
	}
}

// excess returns by how many places the addresses that wait for a registration are over
// their share. The address with the fewest places counts, so the result is 0 or less if
// one of them is within its share.
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
// share, so that the account gets its place. It reports whether there is a place now.
// It does nothing for an account if all addresses that wait for it have their share.
func (s *ZooKeeper) makePlace(a *zkAccount) bool {
	p := &s.places
	belowShare := false
	for q := range a.waiting {
		if p.held[hostaddr.Key(q.Addr)] < p.share() {
			belowShare = true
			break
		}
	}
	if !belowShare {
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

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
)

const (
	// anySubAccount stands for all sub-accounts a coin file does not name.
	anySubAccount = "*"

	coinFileLimit = 64 << 20

	// coinFileWarnings is how many entries are named that can not work.
	coinFileWarnings = 10
)

// coinFileRules is what the configuration has to say about a coin file.
type coinFileRules struct {
	lowerCase bool            // names are looked up in lower case
	known     map[string]bool // coins of StratumServerMap; nil: any
}

// coinFileContent is what a reading of the file gave.
type coinFileContent struct {
	text  []byte
	coins map[string]string
	// warnings are about entries that do nothing, bounded in number and size.
	warnings []string
	info     os.FileInfo
}

// readCoinFile reads and checks a coin file, for a start or a check. The limit
// of time is for the file system; a large file may take long to parse.
func readCoinFile(path string, rules coinFileRules) (*coinFileContent, error) {
	type file struct {
		text []byte
		info os.FileInfo
	}
	f, err := regularfile.InTime(regularfile.Wait, func() (f file, err error) {
		f.text, f.info, err = regularfile.Read(path, coinFileLimit)
		return f, err
	})
	if errors.Is(err, regularfile.ErrTooSlow) {
		return nil, fmt.Errorf("coin file %s: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("coin file: %w", err)
	}
	return checkCoinFile(path, f.text, f.info, rules)
}

// checkCoinFile makes sense of the file's text.
func checkCoinFile(path string, text []byte, info os.FileInfo, rules coinFileRules) (*coinFileContent, error) {
	coins, warnings, err := parseCoinFile(text, rules)
	if e, ok := errors.AsType[*strictjson.Error](err); ok {
		return nil, fmt.Errorf("coin file %s:%d:%d: %w", path, e.Line, e.Column, e.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("coin file %s: %w", path, err)
	}
	return &coinFileContent{text: text, coins: coins, warnings: warnings, info: info}, nil
}

// parseCoinFile returns the entries, or what is wrong and where. Entries for
// names that no sub-account can have are left out, with a warning, so that they
// do not stop the other entries from being used.
func parseCoinFile(text []byte, rules coinFileRules) (coins map[string]string, warnings []string, err error) {
	r, err := strictjson.NewReader(text)
	if e, ok := errors.AsType[*strictjson.Error](err); ok && e.Truncated {
		e.Err = errors.New("the file ends too early")
	}
	if err != nil {
		return nil, nil, err
	}
	token, err := r.Next()
	if err != nil {
		return nil, nil, r.Fail(err)
	}
	if token != json.Delim('{') {
		return nil, nil, r.Fail(errors.New("must be an object of sub-accounts and coins"))
	}
	coins = make(map[string]string)
	useless := uselessEntries{rules: rules, coins: make(map[string]*uselessCoin)}
	for r.More() {
		account, coin, err := parseCoinFileEntry(r, coins)
		if err != nil {
			return nil, nil, r.Fail(err)
		}
		if !useless.check(account, coin) {
			coins[account] = coin
		}
	}
	return coins, useless.warnings(len(coins)), nil
}

// parseCoinFileEntry reads the next sub-account and its coin.
func parseCoinFileEntry(r *strictjson.Reader, before map[string]string) (account, coin string, err error) {
	token, err := r.Next()
	if err != nil {
		return "", "", err
	}
	account, ok := token.(string)
	if !ok {
		return "", "", errors.New("expected a sub-account's name")
	}
	if _, twice := before[account]; twice {
		return "", "", fmt.Errorf("sub-account %q is there twice", strictjson.Shorten(account))
	}
	token, err = r.Next()
	if err != nil {
		return "", "", err
	}
	text, ok := token.(string)
	if !ok {
		return "", "", fmt.Errorf("sub-account %q: the coin must be a string", strictjson.Shorten(account))
	}
	coin, err = parseCoin([]byte(text))
	if err == nil && coin == "" {
		err = errors.New("the coin is empty")
	}
	if err != nil {
		return "", "", fmt.Errorf("sub-account %q: %w", strictjson.Shorten(account), err)
	}
	return account, coin, nil
}

// uselessEntries collects entries that can not do what was meant. A file may
// be full of them, so only some are named.
type uselessEntries struct {
	rules  coinFileRules
	names  []string // one warning each
	more   int
	coins  map[string]*uselessCoin // not in StratumServerMap
	others int                     // entries for further such coins
}

// uselessCoin is a coin that is not in StratumServerMap, and whose it is.
type uselessCoin struct {
	account string // the first
	entries int
}

// check notes what is wrong with an entry and says if it can match nobody.
func (u *uselessEntries) check(account, coin string) (never bool) {
	if account != anySubAccount {
		if why := u.rules.neverMatches(account); why != "" {
			if len(u.names) < coinFileWarnings {
				u.names = append(u.names, fmt.Sprintf("sub-account %q matches no miner: %s", strictjson.Shorten(account), why))
			} else {
				u.more++
			}
			return true
		}
	}
	if u.rules.known == nil || u.rules.known[coin] {
		return false
	}
	if c := u.coins[coin]; c != nil {
		c.entries++
	} else if len(u.coins) < coinFileWarnings {
		u.coins[coin] = &uselessCoin{account, 1}
	} else {
		u.others++
	}
	return false
}

// neverMatches is why no miner can be of this sub-account, empty if one can.
// It goes by what is looked up for a worker's name: see chainType.parseWorker.
func (r coinFileRules) neverMatches(account string) string {
	const allowed = `letters, digits and _:|^/-`
	switch before, _, dot := strings.Cut(account, "."); {
	case account == "":
		return "the name is empty"
	case len(account) > zkMaxName:
		return fmt.Sprintf("the name has %d bytes, at most %d are allowed", len(account), zkMaxName)
	case filterWorker(account) == "":
		return "a name has only " + allowed
	case dot && before == "":
		return "a sub-account's name ends before the first dot of a worker's"
	case dot:
		return fmt.Sprintf("a sub-account's name ends before the first dot of a worker's, here %q", strictjson.Shorten(before))
	case filterWorker(account) != account:
		return fmt.Sprintf("a name has only %s; other characters are dropped, which leaves %q", allowed, filterWorker(account))
	case r.lowerCase && strings.ToLower(account) != account:
		return fmt.Sprintf("with StratumServerCaseInsensitive names are looked up in lower case, %q", strings.ToLower(account))
	}
	return ""
}

func (u *uselessEntries) warnings(entries int) []string {
	all := u.names
	if u.more > 0 {
		all = append(all, fmt.Sprintf("%d more sub-accounts match no miner", u.more))
	}
	for _, coin := range slices.Sorted(maps.Keys(u.coins)) {
		c := u.coins[coin]
		whose := fmt.Sprintf("of sub-account %q", strictjson.Shorten(c.account))
		if c.entries > 1 {
			whose += fmt.Sprintf(" and %d more", c.entries-1)
		}
		all = append(all, fmt.Sprintf("coin %q %s is not in StratumServerMap", coin, whose))
	}
	if u.others > 0 {
		all = append(all, fmt.Sprintf("%d more sub-accounts have coins that are not in StratumServerMap", u.others))
	}
	if entries == 0 {
		all = append(all, "no entry can match a miner: all new miners are refused")
	}
	return all
}

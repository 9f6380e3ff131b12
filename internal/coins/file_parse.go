package coins

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
	// anySubAccount is the key for all sub-accounts that a coin file does not name.
	anySubAccount = "*"

	// MaxFileSize is the size in bytes up to which a coin file is accepted.
	MaxFileSize = 64 << 20

	// maxFileWarnings bounds how many entries without effect are named in warnings.
	maxFileWarnings = 10
)

// FileRules decides which entries of a coin file can match a miner. The others are
// ignored with a warning.
type FileRules struct {
	// LowerCase means that sub-accounts are looked up in lower case.
	LowerCase bool
	// Coins holds the coins that have a pool. Nil stands for any coin.
	Coins map[string]bool
	// FilterName removes the characters that are not allowed in a miner's worker name.
	// NameCharacters describes in words which characters a sub-account may have. A nil
	// FilterName allows all characters.
	FilterName     func(name string) string
	NameCharacters string
}

// fileContent is the content of a valid file.
type fileContent struct {
	text  []byte
	coins map[string]string
	// warnings are about entries that have no effect. Their number and size are
	// bounded.
	warnings []string
	info     os.FileInfo
}

// CheckFile reads a coin file as a start does. It returns warnings about entries
// that have no effect, or the error that NewFile would return.
func CheckFile(path string, rules FileRules) (warnings []string, err error) {
	content, err := readFile(path, rules)
	if err != nil {
		return nil, err
	}
	return content.warnings, nil
}

// readFile reads and checks a coin file. The time limit applies only to the file
// system, because a large file may take long to parse.
func readFile(path string, rules FileRules) (*fileContent, error) {
	type file struct {
		text []byte
		info os.FileInfo
	}
	f, err := regularfile.InTime(regularfile.Wait, func() (f file, err error) {
		f.text, f.info, err = regularfile.Read(path, MaxFileSize)
		return f, err
	})
	if errors.Is(err, regularfile.ErrTooSlow) {
		return nil, fmt.Errorf("coin file %s: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("coin file: %w", err)
	}
	return checkFile(path, f.text, f.info, rules)
}

// checkFile parses the file's text. Errors name the file and the position.
func checkFile(path string, text []byte, info os.FileInfo, rules FileRules) (*fileContent, error) {
	coins, warnings, err := parseFile(text, rules)
	if e, ok := errors.AsType[*strictjson.Error](err); ok {
		return nil, fmt.Errorf("coin file %s:%d:%d: %w", path, e.Line, e.Column, e.Err)
	}
	if err != nil {
		return nil, fmt.Errorf("coin file %s: %w", path, err)
	}
	return &fileContent{text: text, coins: coins, warnings: warnings, info: info}, nil
}

// parseFile returns the entries, or an error that says what is wrong and where.
// Entries for names that no sub-account can have are left out with a warning instead,
// so that the other entries can be used.
func parseFile(text []byte, rules FileRules) (coins map[string]string, warnings []string, err error) {
	r, err := strictjson.NewReader(text)
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
		account, coin, err := parseFileEntry(r, coins)
		if err != nil {
			return nil, nil, r.Fail(err)
		}
		if !useless.check(account, coin) {
			coins[account] = coin
		}
	}
	return coins, useless.warnings(len(coins)), nil
}

// parseFileEntry reads the next sub-account and its coin.
func parseFileEntry(r *strictjson.Reader, earlier map[string]string) (account, coin string, err error) {
	token, err := r.Next()
	if err != nil {
		return "", "", err
	}
	account, ok := token.(string)
	if !ok {
		return "", "", errors.New("expected a sub-account's name")
	}
	if _, twice := earlier[account]; twice {
		return "", "", fmt.Errorf("sub-account %q appears twice", strictjson.Shorten(account))
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

// uselessEntries collects entries that have no effect. A file may have many of them,
// so only some are named.
type uselessEntries struct {
	rules  FileRules
	names  []string                // warnings, one for each entry that matches no miner
	more   int                     // further such entries
	coins  map[string]*uselessCoin // coins that are not in StratumServerMap
	others int                     // entries with further such coins
}

// uselessCoin is a coin that is not in StratumServerMap.
type uselessCoin struct {
	account string // the first sub-account with this coin
	entries int
}

// check records what is wrong with an entry, and reports whether it can never match a
// miner.
func (u *uselessEntries) check(account, coin string) (never bool) {
	if account != anySubAccount {
		if why := u.rules.neverMatches(account); why != "" {
			if len(u.names) < maxFileWarnings {
				u.names = append(u.names, fmt.Sprintf("sub-account %q matches no miner: %s", strictjson.Shorten(account), why))
			} else {
				u.more++
			}
			return true
		}
	}
	if u.rules.Coins == nil || u.rules.Coins[coin] {
		return false
	}
	if c := u.coins[coin]; c != nil {
		c.entries++
	} else if len(u.coins) < maxFileWarnings {
		u.coins[coin] = &uselessCoin{account, 1}
	} else {
		u.others++
	}
	return false
}

// neverMatches returns the reason why no miner can have this sub-account, or "" if a
// miner can. A sub-account is the part of a worker's name before the first dot.
func (r FileRules) neverMatches(account string) string {
	kept := account
	if r.FilterName != nil {
		kept = r.FilterName(account)
	}
	switch before, _, dot := strings.Cut(account, "."); {
	case account == "":
		return "the name is empty"
	case len(account) > MaxName:
		return fmt.Sprintf("the name has %d bytes, at most %d are allowed", len(account), MaxName)
	case kept == "":
		return "a name has only " + r.NameCharacters
	case dot && before == "":
		return "a sub-account's name ends before the first dot of a worker's"
	case dot:
		return fmt.Sprintf("a sub-account's name ends before the first dot of a worker's, here %q", strictjson.Shorten(before))
	case kept != account:
		return fmt.Sprintf("a name has only %s; other characters are dropped, which leaves %q", r.NameCharacters, kept)
	case r.LowerCase && strings.ToLower(account) != account:
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
		users := fmt.Sprintf("of sub-account %q", strictjson.Shorten(c.account))
		if c.entries > 1 {
			users += fmt.Sprintf(" and %d more", c.entries-1)
		}
		all = append(all, fmt.Sprintf("coin %q %s is not in StratumServerMap", coin, users))
	}
	if u.others > 0 {
		all = append(all, fmt.Sprintf("%d more sub-accounts have coins that are not in StratumServerMap", u.others))
	}
	if entries == 0 {
		all = append(all, "no entry can match a miner: all new miners are refused")
	}
	return all
}

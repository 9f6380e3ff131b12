// Package strictjson reads JSON files that people write by hand, and says at
// which line and column a mistake is.
//
// The decoders of encoding/json stop at the first mistake, accept a key that
// is given twice, and cannot say where an unknown key is. This package has a
// Reader, which goes through the tokens of a text of any size without keeping
// them, and Parse, which builds a tree of nodes that remember their lines. A
// text in UTF-8 may begin with a byte order mark.
//
// What a text must contain is the caller's business: this package accepts
// every valid JSON text, with keys in any number. It has no goroutines and no
// state of its own. A Reader belongs to one goroutine, and a tree refers to the
// text that it was read from, which must not be changed as long as the tree is
// in use.
package strictjson

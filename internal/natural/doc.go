// Package natural orders names the way people do: rig2 comes before rig10.
package natural

// Package config answers one question: what does the user want? It reads config.json, the 20 keys of picosnitch 1.0.3 and
// "Plugins", and says in which line and column something in it cannot be meant. [Load] is a function of bytes; [Store]
// finds a configuration to run on, whatever has become of the file. docs/config.md is the description for people.
//
// No text that this package makes holds a value of the file: only keys, places and what is wrong. A value may be an API
// key, or the file something else altogether.
package config

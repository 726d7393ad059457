package sdk

// Version is the semantic version of this SDK's Go API. What a plugin speaks with the host is numbered apart from it, by
// wire.Version: a plugin built with an older SDK goes on working as long as the host speaks its wire version.
const Version = "1.0.0"

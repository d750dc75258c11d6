module workspace-gateway/peer

go 1.22

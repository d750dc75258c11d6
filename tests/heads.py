"""Request heads that a proxy and a gateway could understand differently: none is answered."""

from tests.gateways import AUTH

HOST = "Host: x\r\n" + AUTH + "\r\n"
SMUGGLED = f"GET /api/v1/sessions/s2/files/file HTTP/1.1\r\n{HOST}\r\n"

MISREAD = {
    "both lengths": f"{HOST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, reversed": f"{HOST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": f"{HOST}Content-Length: 0\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n",
    "length list": f"{HOST}Content-Length: 0, {len(SMUGGLED)}\r\n\r\n",
    "length sign": f"{HOST}Content-Length: +0\r\n\r\n",
    "length minus": f"{HOST}Content-Length: -1\r\n\r\n",
    "length junk": f"{HOST}Content-Length: 0x10\r\n\r\n",
    "length space": f"{HOST}Content-Length: 1 0\r\n\r\n",
    "length empty": f"{HOST}Content-Length:\r\n\r\n",
    "length underscore": f"{HOST}Content-Length: 1_0\r\n\r\n",
    "length overflow": f"{HOST}Content-Length: {2**64}\r\n\r\n",
    "te unknown": f"{HOST}Transfer-Encoding: xchunked\r\n\r\n",
    "te not last": f"{HOST}Transfer-Encoding: chunked, identity\r\n\r\n",
    "te twice": f"{HOST}Transfer-Encoding: chunked, chunked\r\n\r\n",
    "te quoted": f'{HOST}Transfer-Encoding: "chunked"\r\n\r\n',
    "te vertical tab": f"{HOST}Transfer-Encoding: \x0bchunked\r\n\r\n",
    "te space before colon": f"{HOST}Transfer-Encoding : chunked\r\n\r\n",
    "space before colon": f"{HOST}X-A : b\r\n\r\n",
    "tab before colon": f"{HOST}X-A\t: b\r\n\r\n",
    "obs-fold": f"{HOST}X-A: b\r\n c\r\n\r\n",
    "fold first": f"\t{HOST}\r\n",
    "no colon": f"{HOST}X-A\r\n\r\n",
    "no name": f"{HOST}: b\r\n\r\n",
    "nul in value": f"{HOST}X-A: b\0c\r\n\r\n",
    "nul in name": f"{HOST}X\0A: b\r\n\r\n",
    "bare cr": f"{HOST}X-A: b\rX-B: c\r\n\r\n",
    "control in value": f"{HOST}X-A: b\x01\r\n\r\n",
    "byte in name": f"{HOST}X-\xe9: b\r\n\r\n",
    "long field": f"{HOST}X-A: {'x' * 20_000}\r\n\r\n",
    "long name": f"{HOST}{'X' * 20_000}: b\r\n\r\n",
    "many fields": HOST + "".join(f"X-{n}: b\r\n" for n in range(200)) + "\r\n",
}

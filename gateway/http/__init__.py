"""The only floor, with `app`, that speaks aiohttp.web."""

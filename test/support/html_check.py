"""Checks that a page of HTML is whole and stands alone."""

from html.parser import HTMLParser


def check_html(text):
    """Check that every element is closed and nothing is fetched from elsewhere."""
    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            named = dict(attrs)
            assert tag not in ('script', 'link', 'iframe')
            assert named.get('src', 'data:').startswith('data:')
            if tag not in ('meta', 'img', 'br'):
                self.open.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(text)
    assert not checker.open
    assert 'url(' not in text and '@import' not in text

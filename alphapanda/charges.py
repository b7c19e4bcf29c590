"""What an executed order costs: brokerage, tax, exchange, SEBI, stamp, GST; in integers, to the paisa.

The rates of a day come from the rulebook as one ``ChargeRates``. A broker charges an *order*, not a fill:
the 0.03 % is capped at 20 rupees, an option order pays 20 once, each kind is rounded once. ``order``
therefore gives the cumulative charges of an order by its turnover so far, and a fill is booked as
``order(after) - order(before)``: however an order is split into fills, the fills add up to the charge of
the whole.

GST is taken on brokerage, exchange charge and (since July 2022) the SEBI fee, before they are rounded, and
not on the part of the exchange charge that goes to NSE's investor protection fund (IPFT), as Kite's virtual
contract note has it. A contract note rounds transaction tax and stamp duty to the rupee by scrip and day;
here every kind keeps its paise. Depository and square-off fees are not an order's: whoever books the day
adds them.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

from alphapanda.money import divide

KINDS = ("brokerage", "transaction_tax", "exchange", "sebi", "stamp", "gst", "dp", "square_off")
NOTHING = (0,) * len(KINDS)

BILLION = 10**9  # rates are parts per this
EXACT = 1 << 52  # below it an integer over 1e9 or 1e11 is rounded rightly in floats; see ChargeRates.order
HUNDRED_BILLION = 100 * BILLION


class ChargeRates(msgspec.Struct, frozen=True, kw_only=True):
    """The rates in force for one segment and product on one day.

    Rates are parts per 1e9 of turnover (0.03 % is 300_000; on options turnover is premium), money is paise,
    GST is whole percent. ``brokerage`` is capped at ``brokerage_cap`` an order (0: no cap);
    ``brokerage_flat`` is due once an order has any turnover. ``ipft`` is charged under "exchange" and
    outside the base of GST; ``gst_sebi`` is the percent on the SEBI fee. ``tax_name`` is "stt" or "ctt".
    ``dp_paise`` is due, GST included, per scrip and day on which delivered shares are sold.
    """

    brokerage: int = 0
    brokerage_cap: int = 0
    brokerage_flat: int = 0
    tax_buy: int = 0
    tax_sell: int = 0
    exchange: int = 0
    ipft: int = 0
    sebi: int = 0
    stamp_buy: int = 0
    stamp_sell: int = 0
    gst: int = 18
    gst_sebi: int = 18
    dp_paise: int = 0
    tax_name: str = "stt"

    def order(self, buy: bool, turnover: int) -> tuple[int, ...]:
        """Charges in paise, by ``KINDS``, of one order that has executed ``turnover`` paise so far.

        Each kind is rounded to the paisa once, half to even; it never falls as turnover grows. Every kind is an
        exact integer n over d (1e9 or 1e11) before. Below 2**52 the float n / d lies on the same side of every
        half as the fraction does (halves are floats, and two quotients that differ by 1 / d differ as floats), so
        ``round`` gives what ``money.divide`` gives, at half the price; above, ``money.divide`` does it. A test holds
        the two equal.
        """
        if turnover <= 0:
            return NOTHING
        fee = self.brokerage * turnover
        cap = self.brokerage_cap * BILLION
        if cap and fee > cap:
            fee = cap
        fee += self.brokerage_flat * BILLION
        if buy:
            tax, stamp = self.tax_buy * turnover, self.stamp_buy * turnover
        else:
            tax, stamp = self.tax_sell * turnover, self.stamp_sell * turnover
        venue = self.exchange * turnover
        sebi = self.sebi * turnover
        gst = self.gst * (fee + venue) + self.gst_sebi * sebi
        venue += self.ipft * turnover
        if fee + tax + venue + stamp + gst < EXACT:
            return (
                round(fee / 1e9),
                round(tax / 1e9) if tax else 0,
                round(venue / 1e9),
                round(sebi / 1e9),
                round(stamp / 1e9) if stamp else 0,
                round(gst / 1e11),
                0,
                0,
            )
        return (
            *(divide(kind, BILLION) for kind in (fee, tax, venue, sebi, stamp)),
            divide(gst, HUNDRED_BILLION),
            0,
            0,
        )

    def exact(self, buy: bool, turnover: int) -> dict[str, Fraction]:
        """The same charges in paise before rounding, by kind: what Kite's virtual contract note shows."""
        if turnover <= 0:
            return dict.fromkeys(KINDS, Fraction(0))
        fee = Fraction(self.brokerage * turnover, BILLION)
        if self.brokerage_cap:
            fee = min(fee, Fraction(self.brokerage_cap))
        fee += self.brokerage_flat
        venue = Fraction(self.exchange * turnover, BILLION)
        sebi = Fraction(self.sebi * turnover, BILLION)
        values = (
            fee,
            Fraction((self.tax_buy if buy else self.tax_sell) * turnover, BILLION),
            venue + Fraction(self.ipft * turnover, BILLION),
            sebi,
            Fraction((self.stamp_buy if buy else self.stamp_sell) * turnover, BILLION),
            (self.gst * (fee + venue) + self.gst_sebi * sebi) / 100,
            Fraction(0),
            Fraction(0),
        )
        return dict(zip(KINDS, values, strict=True))
